/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an event has beyond its columns, if the run asks for it: the caller and the kernel stack,
 * values of fields, the skb and its shared info as they are in memory, the bytes of the packet.
 *
 * Copied raw; user space interprets it with the kernel's BTF and symbols.
 */
#ifndef __DETAILS_BPF_H__
#define __DETAILS_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "filter.bpf.h"
#include "fragments.bpf.h"
#include "read.bpf.h"

/* How far into a function it calls its trampoline: the ftrace nop, with IBT after an endbr64. */
#define ENTRY_BYTES 32

/*
 * The caller of the code at `addr`, `size` bytes, for probes that have no registers: from the
 * stack. 0 if that does not show it.
 */
static __noinline __u64 find_caller(void *ctx, __u64 addr, __u32 size)
{
	__u64 frames[CALLER_FRAMES] = {};
	__u64 caller = 0;

	bpf_get_stack(ctx, frames, sizeof(frames), 0);
	for (int i = CALLER_FRAMES - 2; i >= 0; i--)
		if (frames[i] - addr < size)
			caller = frames[i + 1];
	return caller;
}

static __noinline void capture_stack(void *ctx, __u64 caller, struct stack *stack)
{
	stack->caller = caller;
	stack->size = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), 0);
	RETURN_VOID;
}

static __noinline void capture_cb(struct sk_buff *skb, struct cb *cb)
{
	__u32 offset = SKB_OFFSET(cb) + bpf_core_field_offset(struct qdisc_skb_cb, data);

	read_mem(cb, sizeof(*cb), (__u64)skb + offset);
	RETURN_VOID;
}

/*
 * From the link-layer header on, if it precedes the network header. What is not at head may be in a
 * struct whole.
 */
static __noinline void capture_payload(const struct headers *h, __u32 data, __u32 len,
				       struct payload *payload)
{
	__u32 start, size;
	struct whole *whole = 0;
	__u64 from;

	payload->has_mac = has_mac(h);
	start = payload->has_mac ? h->mac : h->network ? h->network : data;
	payload->length = data + len - start;
	size = h->tail > start ? h->tail - start : 0;
	from = h->head + start;
	if (size < config.size[PART_PAYLOAD] && h->skb)
		whole = hold();
	if (whole) {
		whole->head = h->head;
		whole->start = start;
		whole->tail = h->tail;
		if (collect(whole, h->skb, false, config.size[PART_PAYLOAD])) {
			size = whole->size;
			from = scalar((__u64)whole->bytes);
		}
	}
	if (size > config.size[PART_PAYLOAD])
		size = config.size[PART_PAYLOAD];
	barrier_var(size);
	if (size > config.size[PART_PAYLOAD] || !read_mem(payload->bytes, size, from))
		size = 0;
	if (whole)
		release(whole);
	payload->size = size;
	__builtin_memset(payload->padding, 0, sizeof(payload->padding));
	payload->vlan_proto = 0;
	payload->vlan_tci = 0;
	if (h->skb && notes_tag(h->skb) && !is_tag_in_bytes(h)) {
		payload->vlan_proto = bpf_ntohs(get(h->skb, vlan_proto));
		payload->vlan_tci = get(h->skb, vlan_tci);
	}
	RETURN_VOID;
}

static __noinline void capture_values(struct sk_buff *skb, __u64 *values)
{
	values[0] = skb_value0((__u64)skb);
	if (config.size[PART_VALUES] > 8)
		values[1] = skb_value1((__u64)skb);
	if (config.size[PART_VALUES] > 16)
		values[2] = skb_value2((__u64)skb);
	if (config.size[PART_VALUES] > 24)
		values[3] = skb_value3((__u64)skb);
	if (config.size[PART_VALUES] > 8 * MAX_VALUES)
		values[MAX_VALUES] = 0;
	RETURN_VOID;
}

#endif /* __DETAILS_BPF_H__ */
