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
#include "account.bpf.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "details.bpf.h"
#include "follow.bpf.h"
#include "helper.bpf.h"
#include "meta.bpf.h"
#include "origin.bpf.h"
#include "read.bpf.h"
#include "sock.bpf.h"
#include "stack.bpf.h"
#include "tuple.bpf.h"

/* What a probe knows of a hit. `reason` and `location` are 0 where it has no such thing. */
struct hit {
	void *ctx; /* of the program */
	struct sk_buff *skb; /* the carrier of the packet */
	struct sock *sk; /* among the arguments of what was hit; NULL: none */
	__u64 addr;
	__u64 location; /* see PART_LOCATION */
	__u32 reason;
	__u32 code; /* of a function that means something for packets that are followed, or 0 */
};

/* What it knows besides, in a run that follows packets by their stacks: NULL in others. */
struct on_stack {
	__u64 slot; /* address of the return address; 0: unknown */
	struct frame *frame; /* by which the hit is traced; NULL: by its skb */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* bytes; user space sets it */
} events SEC(".maps");

/* Where an event is made that is not made in the ring buffer itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/*
 * Where to make one event, or NULL if it is lost, which is counted.
 *
 * int3 kprobes count as NMI context, where the ring buffer's lock is only tried before v6.15, so
 * they need several tries. The verifier would walk through all that follows once for each
 * reservation that may have succeeded. So their event is made first, elsewhere, and output at the
 * end: no kprobe's program runs within another on the same CPU (trace_call_bpf()). A `direct` event
 * is made in the ring buffer whatever the backend: it is none of a kprobe, which may interrupt it.
 */
static __always_inline struct event *begin_event(bool direct)
{
	struct counters *count = find_counters();
	struct event *event;
	__u32 zero = 0;

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->hits, 1);
	if (!direct && config.tries > 1)
		return bpf_map_lookup_elem(&scratch, &zero);
	event = bpf_ringbuf_reserve(&events, config.record_size, 0);
	if (!event)
		__sync_fetch_and_add(&count->full, 1);
	return event;
}

static __always_inline bool is_full(void)
{
	__u64 used = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	return used + config.record_size + RINGBUF_HEADER >=
	       bpf_ringbuf_query(&events, BPF_RB_RING_SIZE);
}

/*
 * Output what was made in `scratch`, or count it as lost. A try that failed although there is room
 * is repeated: the reader has made room in between, or the lock was taken, which is held only
 * briefly. Whoever fails each time was kept out by the lock.
 */
static __noinline void output_event(struct event *event)
{
	struct counters *count = find_counters();
	__u64 *lost = 0;

	if (!count)
		goto out;
	for (__u32 i = 0; i < config.tries; i++) {
		if (!bpf_ringbuf_output(&events, event, config.record_size, 0))
			goto out;
		if (is_full()) {
			lost = &count->full;
			break;
		}
	}
	if (!lost)
		lost = &count->busy;
	__sync_fetch_and_add(lost, 1);
out:
	RETURN_VOID;
}

static __always_inline void end_event(struct event *event, bool direct)
{
	if (!direct && config.tries > 1)
		output_event(event);
	else
		bpf_ringbuf_submit(event, 0);
}

/*
 * Who frees a packet that a qdisc dropped says only that one did: the qdisc's own reason is in the
 * control block, since commit ff2998f29f39 ("net: sched: introduce qdisc-specific drop reason
 * tracing").
 */
static __always_inline __u32 find_reason(const struct hit *hit)
{
	__u64 cb = (__u64)hit->skb + bpf_core_field_offset(struct sk_buff, cb);
	__u32 reason = hit->reason, own;

	if (!bpf_core_enum_value_exists(enum qdisc_drop_reason___new, __QDISC_DROP_REASON) ||
	    reason != bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_QDISC_DROP))
		return reason;
	own = load_u32(cb + bpf_core_field_offset(struct tc_skb_cb, drop_reason));
	if (own > bpf_core_enum_value(enum qdisc_drop_reason___new, __QDISC_DROP_REASON) &&
	    own < bpf_core_enum_value(enum qdisc_drop_reason___new, QDISC_DROP_MAX))
		return own;
	return reason;
}

/* What every record has. */
static __noinline void capture_event(const struct hit *hit, struct event *event)
{
	event->skb = (__u64)hit->skb;
	event->site.addr = hit->addr;
	event->site.reason = find_reason(hit);
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

static __always_inline void capture_addresses(const struct hit *hit, const struct headers *h,
					      struct tuple *tuple)
{
	if (h->network)
		capture_tuple(h, tuple);
	else
		capture_sock_tuple(find_sock(hit->skb, hit->sk), tuple);
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

/* Which packet it is, of a run that follows packets: says so in `told`, and remembers it. */
static __always_inline void tell(const struct hit *hit, const struct on_stack *stack,
				 bool in_program, struct follow *told)
{
	if (stack && stack->frame)
		tell_by_stack(stack->frame, hit->code < STACK_CODE, told);
	else
		follow(hit->skb, hit->code, told);
	if (stack && stack->slot && told->packet)
		enter_frame(stack->slot, hit->skb, told, in_program ? FRAME_PROGRAM : 0);
}

/*
 * `call`: what a BPF program calls, see on_helper(), or 0. `in_program`: the hit is that, or one of
 * on_program().
 */
static __always_inline void emit_hit(const struct hit *hit, const struct on_stack *stack,
				     __u64 call, bool in_program, bool following)
{
	struct sk_buff *skb = hit->skb;
	struct follow unseen;
	struct event *event;
	struct headers h;

	if (following && is_silent(hit->code)) {
		follow_silently(skb, hit->code);
		return;
	}
	event = begin_event(in_program);
	if (!event) {
		if (following)
			tell(hit, stack, in_program, &unseen);
		return;
	}
	capture_event(hit, event);
	if (following && stack && stack->frame && hit->code >= STACK_CODE)
		event->skb = stack->frame->skb;
	if (in_program)
		event->site.reason = hit->reason; /* is a verdict */
	if (needs_headers())
		find_headers(skb, &h);
	PART(LOCATION, *(__u64 *)to = hit->location);
	PART(META, capture_meta(skb, hit->sk, to));
	PART(CB, capture_cb(skb, to));
	PART(TUPLE, capture_addresses(hit, &h, to));
	PART(TUNNEL, capture_tunnel(&h, to));
	if (following)
		PART(FOLLOW, tell(hit, stack, in_program, to));
	PART(TIME, *(__u64 *)to = bpf_ktime_get_ns());
	PART(VALUES, capture_values(skb, to));
	PART(STACK, capture_stack(hit->ctx, hit->location, to));
	PART(SKB, read_mem(to, config.size[PART_SKB], (__u64)skb));
	PART(SHARED_INFO, read_mem(to, config.size[PART_SHARED_INFO], h.head + get(skb, end)));
	PART(PAYLOAD, capture_payload(&h, find_data(skb, h.head), get(skb, len), to));
	if (following)
		PART(BPFMAP, capture_bpfmap(hit->ctx, call, to));
	end_event(event, in_program);
}

/*
 * Not inlined: hits that do not match must not pay for its registers and its stack. Returns whether
 * it is known which packet the hit is of.
 */
static __noinline int emit_plain(const struct hit *hit)
{
	emit_hit(hit, 0, 0, false, false);
	return 0;
}

static __noinline int emit_followed(const struct hit *hit, const struct on_stack *stack)
{
	emit_hit(hit, stack, 0, false, true);
	return 1;
}

static __noinline int emit_plain_program(const struct hit *hit)
{
	emit_hit(hit, 0, 0, true, false);
	return 0;
}

static __noinline int emit_followed_program(const struct hit *hit, const struct on_stack *stack)
{
	emit_hit(hit, stack, 0, true, true);
	return 1;
}

static __noinline int emit_skb_call(const struct hit *hit, struct frame *frame, __u64 call)
{
	struct on_stack stack = { .frame = frame };

	emit_hit(hit, &stack, call, true, true);
	return 0;
}

static __always_inline int emit(const struct hit *hit, bool following)
{
	return following ? emit_followed(hit, 0) : emit_plain(hit);
}

static __always_inline int emit_program(const struct hit *hit, const struct on_stack *stack,
					bool following)
{
	return following ? emit_followed_program(hit, stack) : emit_plain_program(hit);
}

#endif /* __EMIT_BPF_H__ */
