/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which packets are traced: the filters on metadata and on the skb's fields, then the packet filter.
 *
 * This runs in every function for every packet of the machine, and mostly in vain: every load and every call counts.
 */
#ifndef __MATCH_BPF_H__
#define __MATCH_BPF_H__

static __noinline bool meta_matches(struct sk_buff *skb)
{
	struct net_device *dev = get_device(skb);

	/* With an interface goes its namespace. */
	if (config.netns && find_netns(skb, &dev) != config.netns)
		return false;
	if (config.ifindex && (!dev || get(dev, ifindex) != config.ifindex))
		return false;
	return (get(skb, mark) & config.mark_mask) == config.mark;
}

/* The task is whoever runs on this CPU. The kernel fills a comm up with zeros. */
static __noinline bool task_matches(void)
{
	const volatile __u32 *wanted = (const volatile __u32 *)config.comm;
	struct task task __attribute__((aligned(8)));
	const __u32 *comm = (const __u32 *)task.comm;

	capture_task(&task);
	if (config.pid && task.pid != config.pid)
		return false;
	return !wanted[0] ||
	       (comm[0] == wanted[0] && comm[1] == wanted[1] && comm[2] == wanted[2] && comm[3] == wanted[3]);
}

/* A tag that hardware has put there or is to put into the packet: skb_vlan_tag_present(). */
static __always_inline bool has_tag(struct sk_buff *skb)
{
	struct sk_buff___old *old = (void *)skb;

	return bpf_core_field_exists(skb->vlan_all) ? get(skb, vlan_all) :
						      BPF_CORE_READ_BITFIELD_PROBED(old, vlan_present);
}

/* All filters, in the order of what they cost. */
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
	bool found = false;

	if (!(config.filters & FILTER_REASON))
		return true;
	for (int i = 0; i < MAX_REASONS; i++)
		found |= config.reasons[i] == reason;
	return found;
}

/* Mostly there is just a packet filter. The verifier knows which way it is and drops the other. */
static __always_inline bool matches(struct sk_buff *skb)
{
	__u32 filters = config.filters;

	return filters == FILTER_PACKET ? filter_packet((__u64)skb) : all_match(skb, filters);
}

#endif /* __MATCH_BPF_H__ */
