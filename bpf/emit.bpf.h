/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way of an event to user space, and the account of it: every hit is either delivered or counted as lost.
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

/* Room for one event, or NULL: then it is counted as lost. Counting is atomic: an interrupt can hit a probe, too. */
static __always_inline struct event *reserve_event(void)
{
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counters, &zero);
	struct event *event;

	if (!count)
		return 0;
	__sync_fetch_and_add(&count->hits, 1);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		__sync_fetch_and_add(&count->lost, 1);
	return event;
}

#endif /* __EMIT_BPF_H__ */
