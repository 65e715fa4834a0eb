/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way of an event to user space, and the account of it: every hit is either delivered or counted as lost.
 *
 * A record has the size and the parts that struct config says, the same for all events of a run.
 */
#ifndef __EMIT_BPF_H__
#define __EMIT_BPF_H__

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
 * Room for one event, or NULL: then it is counted as lost. Counting is atomic: an interrupt can hit a probe, too.
 *
 * A kprobe that is a breakpoint runs as in an NMI, where the kernel does not wait for another CPU that is at the ring
 * buffer, but gives up. That one is done in a moment. Each try costs the verifier a walk through the rest of the program,
 * in every program that is loaded, so the others have one only.
 */
static __always_inline struct event *reserve_event(void)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counters, &zero);
	struct event *event;

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->hits, 1);
	for (__u32 i = 0; i < config.tries; i++) {
		event = bpf_ringbuf_reserve(&events, config.record_size, 0);
		if (event)
			return event;
		if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) + config.record_size + RINGBUF_HEADER >=
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
	struct meta *meta = (void *)event + config.meta_at;

	capture_task(&event->task);
	if (config.meta_at)
		capture_meta(skb, meta);
	if (config.cb_at)
		capture_cb(skb, (void *)event + config.cb_at);
	if (config.tunnel_at)
		capture_tunnel(skb, (void *)event + config.tunnel_at);
	if (config.tuple_at)
		capture_tuple(skb, config.meta_at ? meta->protocol : bpf_ntohs(get(skb, protocol)),
			      (void *)event + config.tuple_at);
	RETURN_VOID;
}

/*
 * `reason` and `location` (or the caller) are 0 where the probe has no such thing. Not inlined: what it needs of
 * registers and stack is not to be paid for by the hits that do not match.
 */
static __noinline int emit(void *ctx, struct sk_buff *skb, __u64 addr, __u32 reason, __u64 location)
{
	struct event *event = reserve_event();

	if (!event)
		return 0;
	event->skb = (__u64)skb;
	event->where.addr = addr;
	event->where.reason = reason;
	event->where.padding = 0;
	if (config.stack_at)
		capture_stack(ctx, location, (void *)event + config.stack_at);
	if (config.values || config.skb_size || config.shared_info_size || config.payload_size)
		capture_details(skb, event);
	if (config.location_at)
		*(__u64 *)((void *)event + config.location_at) = location;
	if (config.time_at)
		*(__u64 *)((void *)event + config.time_at) = bpf_ktime_get_ns();
	capture_parts(skb, event);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* __EMIT_BPF_H__ */
