/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an event has beyond its columns, if the flags ask for it: the caller and the kernel stack, values of fields, the
 * skb and its shared info as they are in memory, the bytes of the packet.
 *
 * All of it is copied raw. What it means user space knows from the kernel's BTF and symbols.
 */
#ifndef __DETAILS_BPF_H__
#define __DETAILS_BPF_H__

/* How far up the stack a traced function is: above it are this program and what the kernel calls it by. */
#define CALLER_FRAMES 12
/* How far behind its entry a function calls a trampoline: the ftrace nop, with IBT behind an endbr64. */
#define ENTRY_BYTES 32

/* From the stack, for probes that have no registers: who called what is at `addr`; 0 if that is not to be seen. */
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

/* From the link-layer header on, if there is one in front of the network header, as far as the bytes lie at head. */
static __noinline void capture_payload(struct sk_buff *skb, struct payload *payload)
{
	struct headers h;
	__u32 start, size;

	find_headers(skb, &h);
	payload->has_mac = h.mac && h.network - h.mac - ETH_HLEN <= MAX_TAGS; /* as in pwru/filter/packet/skb.py */
	start = payload->has_mac ? h.mac : h.network ? h.network : find_data(skb, h.head);
	payload->length = get(skb, len) + find_data(skb, h.head) - start;
	size = h.tail > start ? h.tail - start : 0;
	if (size > config.payload_size)
		size = config.payload_size;
	barrier_var(size);
	if (size > config.payload_size || !copy(payload->bytes, size, h.head + start))
		size = 0;
	payload->size = size;
	payload->padding = 0;
	RETURN_VOID;
}

static __noinline void capture_values(struct sk_buff *skb, __u64 *values)
{
	values[0] = skb_value0((__u64)skb);
	if (config.values > 1)
		values[1] = skb_value1((__u64)skb);
	if (config.values > 2)
		values[2] = skb_value2((__u64)skb);
	if (config.values > 3)
		values[3] = skb_value3((__u64)skb);
	RETURN_VOID;
}

static __noinline void capture_details(struct sk_buff *skb, void *record)
{
	struct headers h;

	if (config.values)
		capture_values(skb, record + config.values_at);
	if (config.skb_size)
		copy(record + config.skb_at, config.skb_size, (__u64)skb);
	if (config.shared_info_size) {
		find_headers(skb, &h);
		copy(record + config.shared_info_at, config.shared_info_size, h.head + get(skb, end));
	}
	if (config.payload_size)
		capture_payload(skb, record + config.payload_at);
	RETURN_VOID;
}

#endif /* __DETAILS_BPF_H__ */
