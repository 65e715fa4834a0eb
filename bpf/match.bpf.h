/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which packets are traced: the filters on metadata and on the skb's fields, then the packet
 * filter.
 *
 * This runs in every function for every packet of the machine, mostly in vain: every load and every
 * call counts.
 */
#ifndef __MATCH_BPF_H__
#define __MATCH_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "filter.bpf.h"
#include "meta.bpf.h"
#include "read.bpf.h"

static __noinline bool meta_matches(struct sk_buff *skb)
{
	struct origin origin = { get_device(skb), 0 };

	/* An interface is asked for together with its namespace. */
	if (config.netns) {
		origin = find_origin(skb, origin.dev);
		if (origin.netns != config.netns)
			return false;
	}
	if (config.ifindex && (!origin.dev || get(origin.dev, ifindex) != config.ifindex))
		return false;
	return (get(skb, mark) & config.mark_mask) == config.mark;
}

/* Matches current. comm is zero-padded. */
static __noinline bool task_matches(void)
{
	const volatile __u32 *wanted = (const volatile __u32 *)config.comm;
	struct task task __attribute__((aligned(8)));
	const __u32 *comm = (const __u32 *)task.comm;

	capture_task(&task);
	if (config.pid && task.pid != config.pid)
		return false;
	return !wanted[0] || (comm[0] == wanted[0] && comm[1] == wanted[1] &&
			      comm[2] == wanted[2] && comm[3] == wanted[3]);
}

/* A VLAN tag that hardware took out of the packet, or will put into it: skb_vlan_tag_present(). */
static __always_inline bool has_tag(struct sk_buff *skb)
{
	struct sk_buff___old *old = (void *)skb;

	if (bpf_core_field_exists(skb->vlan_all))
		return get(skb, vlan_all);
	return BPF_CORE_READ_BITFIELD_PROBED(old, vlan_present);
}

/* All filters, the cheapest first. */
static __noinline bool all_match(struct sk_buff *skb, __u32 filters)
{
	if (filters & FILTER_TASK && !task_matches())
		return false;
	if (filters & FILTER_META && !meta_matches(skb))
		return false;
	if (filters & FILTER_SKB_EXPR && !filter_skb((__u64)skb))
		return false;
	if (filters & FILTER_INNER_L2 && !filter_inner_l2((__u64)skb))
		return false;
	if (filters & FILTER_INNER_L3 && !filter_inner_l3((__u64)skb))
		return false;
	if (filters & FILTER_TAGGED && has_tag(skb))
		return filter_tagged((__u64)skb);
	return !(filters & FILTER_PACKET) || filter_packet((__u64)skb);
}

static __always_inline bool reason_matches(__u32 reason)
{
	bool wanted = false;

	if (!(config.filters & FILTER_REASON))
		return true;
	for (int i = 0; i < MAX_REASONS; i++)
		wanted |= config.reasons[i] == reason;
	return wanted;
}

/*
 * Mostly the packet filter is the only one. The verifier knows which way it is and drops the other.
 */
static __always_inline bool matches(struct sk_buff *skb)
{
	__u32 filters = config.filters;

	return filters == FILTER_PACKET ? filter_packet((__u64)skb) : all_match(skb, filters);
}

#endif /* __MATCH_BPF_H__ */
