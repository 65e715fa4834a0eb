/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which packets are traced: the filters on metadata and on the skb's fields, then the packet filter on the header that
 * the skb has.
 *
 * This runs in every function for every packet of the machine, and mostly in vain: every load and every call counts.
 */
#ifndef __MATCH_BPF_H__
#define __MATCH_BPF_H__

const volatile struct config config SEC(".rodata.config") = {};

/*
 * On its way a packet gains and loses its link-layer header, so there is a filter for both forms. The MAC header counts
 * only if it is in front of the network header: after an encapsulation the old one is behind it.
 */
static __always_inline bool packet_matches(struct sk_buff *skb)
{
	struct headers h;
	__u32 at, len = 0;
	bool l2;

	find_headers(skb, &h);
	l2 = h.mac && h.mac + ETH_HLEN <= h.network;
	at = l2 ? h.mac : h.network;
	if (!at || at >= h.tail)
		return false;
	if (config.filter_len)
		len = get(skb, len) + (get_data(skb) - h.head) - at;
	if (l2)
		return filter_l2(h.head + at, h.tail - at, len);
	return filter_l3(h.head + at, h.tail - at, len);
}

static __always_inline bool matches(struct sk_buff *skb)
{
	if (config.netns || config.ifindex) {
		struct net_device *dev = get_device(skb);

		if (config.ifindex && (!dev || get(dev, ifindex) != config.ifindex))
			return false;
		if (config.netns && get_netns(dev, dev ? 0 : get(skb, sk)) != config.netns)
			return false;
	}
	if (config.mark_mask && (get(skb, mark) & config.mark_mask) != config.mark)
		return false;
	if (config.has_skb_expr && !filter_skb((__u64)skb))
		return false;
	return !config.has_filter || packet_matches(skb);
}

#endif /* __MATCH_BPF_H__ */
