/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sending an event to user space, and the account: every hit is either delivered or counted as
 * lost.
 *
 * All records of a run have the size and the parts that struct config says.
 */
#ifndef __EMIT_BPF_H__
#define __EMIT_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "config.bpf.h"
#include "details.bpf.h"
#include "meta.bpf.h"
#include "read.bpf.h"
#include "tuple.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* bytes; user space sets it */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/*
 * Reserve room for one event, or count it as lost and return NULL. Counting is atomic: an interrupt
 * can hit a probe, too.
 *
 * int3 kprobes count as NMI context, where bpf_ringbuf_reserve() trylocks. The lock is held only
 * briefly, so they retry. Each try costs the verifier a walk through the rest of the program, so
 * all other programs try once.
 */
static __always_inline struct event *reserve_event(void)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counters, &zero);
	struct event *event;
	__u64 used;

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->hits, 1);
	for (__u32 i = 0; i < config.tries; i++) {
		event = bpf_ringbuf_reserve(&events, config.record_size, 0);
		if (event)
			return event;
		used = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
		if (used + config.record_size + RINGBUF_HEADER >=
		    bpf_ringbuf_query(&events, BPF_RB_RING_SIZE)) {
			__sync_fetch_and_add(&count->full, 1);
			return 0;
		}
	}
	__sync_fetch_and_add(&count->busy, 1);
	return 0;
}

static __noinline void capture_parts(struct sk_buff *skb, struct event *event)
{
	struct meta *meta = (void *)event + config.at[PART_META];

	capture_task(&event->task);
	if (config.at[PART_META])
		capture_meta(skb, meta);
	if (config.at[PART_CB])
		capture_cb(skb, (void *)event + config.at[PART_CB]);
	if (config.at[PART_TUNNEL])
		capture_tunnel(skb, (void *)event + config.at[PART_TUNNEL]);
	if (config.at[PART_TUPLE])
		capture_tuple(skb,
			      config.at[PART_META] ? meta->protocol : bpf_ntohs(get(skb, protocol)),
			      (void *)event + config.at[PART_TUPLE]);
	RETURN_VOID;
}

/*
 * `reason` and `location` (or the caller) are 0 where the probe has no such thing. Not inlined:
 * what it needs of registers and stack is not to be paid for by the hits that do not match.
 */
static __noinline int emit(void *ctx, struct sk_buff *skb, __u64 addr, __u32 reason, __u64 location)
{
	struct event *event = reserve_event();

	if (!event)
		return 0;
	event->skb = (__u64)skb;
	event->site.addr = addr;
	event->site.reason = reason;
	event->site.padding = 0;
	if (config.at[PART_STACK])
		capture_stack(ctx, location, (void *)event + config.at[PART_STACK]);
	if (config.at[PART_VALUES] || config.at[PART_SKB] || config.at[PART_SHARED_INFO] ||
	    config.at[PART_PAYLOAD])
		capture_details(skb, event);
	if (config.at[PART_LOCATION])
		*(__u64 *)((void *)event + config.at[PART_LOCATION]) = location;
	if (config.at[PART_TIME])
		*(__u64 *)((void *)event + config.at[PART_TIME]) = bpf_ktime_get_ns();
	capture_parts(skb, event);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* __EMIT_BPF_H__ */
