/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sending an event to user space, and the account: every hit is delivered or counted as lost.
 *
 * All records of a run have the size and the parts that struct config says.
 */
#ifndef __EMIT_BPF_H__
#define __EMIT_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "details.bpf.h"
#include "meta.bpf.h"
#include "read.bpf.h"
#include "tuple.bpf.h"

/* What a probe knows of a hit. `reason` and `location` are 0 where it has no such thing. */
struct hit {
	void *ctx; /* of the program */
	struct sk_buff *skb; /* the carrier of the packet */
	__u64 addr;
	__u64 location; /* see PART_LOCATION */
	__u32 reason;
};

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

/* What every record has. */
static __noinline void capture_event(const struct hit *hit, struct event *event)
{
	event->skb = (__u64)hit->skb;
	event->site.addr = hit->addr;
	event->site.reason = hit->reason;
	event->site.padding = 0;
	capture_task(&event->task);
	RETURN_VOID;
}

/* Whether the run has a part that is captured from struct headers. */
static __always_inline bool needs_headers(void)
{
	return config.at[PART_TUPLE] || config.at[PART_TUNNEL] || config.at[PART_SHARED_INFO] ||
	       config.at[PART_PAYLOAD];
}

/* One part of the record, if the run has it: `capture` fills what `to` points to. */
#define PART(name, capture)                                                                        \
	do {                                                                                       \
		__u32 offset = config.at[PART_##name];                                             \
		void *to = (void *)event + offset;                                                 \
                                                                                                   \
		if (offset)                                                                        \
			capture;                                                                   \
	} while (0)

/* Not inlined: hits that do not match must not pay for its registers and its stack. */
static __noinline int emit(const struct hit *hit)
{
	struct event *event = reserve_event();
	struct sk_buff *skb = hit->skb;
	struct headers h;

	if (!event)
		return 0;
	capture_event(hit, event);
	if (needs_headers())
		find_headers(skb, &h);
	PART(LOCATION, *(__u64 *)to = hit->location);
	PART(META, capture_meta(skb, to));
	PART(CB, capture_cb(skb, to));
	PART(TUPLE, capture_tuple(&h, to));
	PART(TUNNEL, capture_tunnel(&h, find_inner(skb), to));
	PART(TIME, *(__u64 *)to = bpf_ktime_get_ns());
	PART(VALUES, capture_values(skb, to));
	PART(STACK, capture_stack(hit->ctx, hit->location, to));
	PART(SKB, read_mem(to, config.size[PART_SKB], (__u64)skb));
	PART(SHARED_INFO, read_mem(to, config.size[PART_SHARED_INFO], h.head + get(skb, end)));
	PART(PAYLOAD, capture_payload(&h, find_data(skb, h.head), get(skb, len), to));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* __EMIT_BPF_H__ */
