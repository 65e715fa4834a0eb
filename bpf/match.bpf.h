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
#include "fragments.bpf.h"
#include "ip.bpf.h"
#include "meta.bpf.h"
#include "origin.bpf.h"
#include "read.bpf.h"
#include "sock.bpf.h"
#include "tunnel.bpf.h"

/*
 * A verdict of a filter is positive if the packet matches, 0 if not, and UNDECIDED if that depends
 * on what the socket or the route knows. Few hits get that far: see sock_matches().
 */

static __noinline int meta_matches(struct sk_buff *skb)
{
	struct net_device *dev;
	__u32 netns;

	if ((get(skb, mark) & config.mark_mask) != config.mark)
		return 0;
	/* An interface is asked for together with its namespace. */
	if (!config.netns)
		return 1;
	dev = get_device(skb);
	netns = device_netns(dev);
	if (!netns)
		return UNDECIDED;
	if (netns != config.netns)
		return 0;
	return !config.ifindex || get(dev, ifindex) == config.ifindex;
}

static __noinline bool origin_matches(struct sk_buff *skb, struct sock *arg)
{
	struct origin origin;

	if (!config.netns)
		return true;
	find_origin(skb, get_device(skb), arg, &origin);
	return origin.netns == config.netns &&
	       (!config.ifindex || origin.ifindex == config.ifindex);
}

/* The number of current's process in the namespace of config.pid; 0 if it is in another one. */
static __always_inline __u32 pid_in_namespace(void)
{
	struct bpf_pidns_info info;

	/* Since v5.7; fills `info` with zeros if it fails. */
	bpf_get_ns_current_pid_tgid(config.pid_ns_dev, config.pid_ns_inode, &info, sizeof(info));
	return info.tgid;
}

/* Matches current. comm is zero-padded. */
static __noinline bool task_matches(void)
{
	const volatile __u32 *wanted = (const volatile __u32 *)config.comm;
	struct task task __attribute__((aligned(8)));
	const __u32 *comm = (const __u32 *)task.comm;

	capture_task(&task);
	if (config.pid &&
	    (config.pid_ns_inode ? pid_in_namespace() : task.pid) != config.pid)
		return false;
	return !wanted[0] || (comm[0] == wanted[0] && comm[1] == wanted[1] &&
			      comm[2] == wanted[2] && comm[3] == wanted[3]);
}

/* A VLAN tag that hardware took out of the packet, or will put into it: the bytes do not have it. */
static __always_inline bool has_tag(struct sk_buff *skb)
{
	struct headers h;

	if (!notes_tag(skb))
		return false;
	find_headers(skb, &h);
	return !is_tag_in_bytes(&h);
}

static __noinline bool carries_ip(struct sk_buff *skb)
{
	struct headers h;

	find_headers(skb, &h);
	return find_ip(&h);
}

static __always_inline __u32 captured_from(const struct headers *h, __u32 at)
{
	return h->tail > at ? h->tail - at : 0;
}

/* A packet passes that is in no tunnel, or in one that is not known. */
static __noinline bool tunnel_matches(const struct headers *headers, __u32 filters)
{
	struct headers h = *headers;
	struct tunnel tunnel;
	int verdict = 1;

	find_tunnel(&h, &tunnel);
	if (filters & FILTER_INNER_L2 && tunnel.mac)
		verdict = filter_inner_l2(h.head + tunnel.mac, captured_from(&h, tunnel.mac),
					  length_from(&h, tunnel.mac));
	if (verdict && filters & FILTER_INNER_L3 && tunnel.network)
		verdict = filter_inner_l3(h.head + tunnel.network,
					  captured_from(&h, tunnel.network),
					  length_from(&h, tunnel.network));
	return verdict == IF_IP ? find_inner_ip(&h, tunnel.network) : verdict;
}

static __noinline bool inner_matches(struct sk_buff *skb, __u32 filters)
{
	struct headers h;

	find_headers(skb, &h);
	return tunnel_matches(&h, filters);
}

/* A function of its own, as the stack of all together is short. */
static __noinline int find_start(struct whole *whole, struct sk_buff *skb)
{
	struct headers h;

	find_headers(skb, &h);
	whole->has_mac = has_mac(&h);
	whole->head = h.head;
	whole->start = whole->has_mac ? h.mac : h.network;
	whole->tail = h.tail;
	whole->length = length_from(&h, whole->start);
	return whole->start != 0;
}

/* The packet filter with all bytes of the packet that can be read. */
static __noinline int whole_matches(struct sk_buff *skb, bool tagged)
{
	struct whole *whole = hold();
	__u64 bytes;
	__u32 length;
	int verdict = 0;

	if (!whole)
		return 0;
	if (find_start(whole, skb) && collect(whole, skb, whole->has_mac && tagged, WHOLE_SIZE)) {
		bytes = scalar((__u64)whole->bytes);
		length = whole->length + (whole->has_mac && tagged ? 4 : 0);
		if (whole->has_mac)
			verdict = filter_whole_l2(bytes, whole->size, length);
		else
			verdict = filter_whole_l3(bytes, whole->size, length);
	}
	release(whole);
	return verdict == IF_IP ? carries_ip(skb) : verdict == 1;
}

/* `verdict` is what filter_packet() said, or filter_tagged() of one that is `tagged`. */
static __always_inline int accepts(struct sk_buff *skb, int verdict, bool tagged)
{
	if (!verdict)
		return 0;
	if (verdict == BEYOND)
		return whole_matches(skb, tagged);
	return verdict == IF_IP ? carries_ip(skb) : verdict;
}

static __always_inline int packet_matches(struct sk_buff *skb, __u32 filters)
{
	if (filters & FILTER_TAGGED && has_tag(skb))
		return accepts(skb, filter_tagged((__u64)skb), true);
	return filters & FILTER_PACKET ? accepts(skb, filter_packet((__u64)skb), false) : 1;
}

/* All filters, the cheapest first. */
static __noinline int all_match(struct sk_buff *skb, __u32 filters)
{
	int meta = 1, verdict;

	if (filters & FILTER_TASK && !task_matches())
		return 0;
	if (filters & FILTER_META) {
		meta = meta_matches(skb);
		if (!meta)
			return 0;
	}
	if (filters & FILTER_SKB_EXPR && !filter_skb((__u64)skb))
		return 0;
	verdict = packet_matches(skb, filters);
	if (verdict && filters & (FILTER_INNER_L2 | FILTER_INNER_L3) &&
	    !inner_matches(skb, filters))
		return 0;
	return verdict > 0 ? meta : verdict;
}

/* Decides what the others could not. `sk` is find_sock(). */
static __noinline bool sock_matches(struct sk_buff *skb, struct sock *sk)
{
	__u32 filters = config.filters;

	if (filters & FILTER_META && !origin_matches(skb, sk))
		return false;
	if (filters != FILTER_PACKET && packet_matches(skb, filters) > 0)
		return true;
	return filter_by_sock(skb, sk);
}

static __always_inline bool reason_matches(__u32 reason)
{
	bool wanted = false;

	if (!(config.filters & FILTER_REASON))
		return true;
	for (int i = 0; i < MAX_REASONS; i++)
		wanted |= (reason & config.reason_masks[i]) == config.reasons[i];
	return wanted;
}

/*
 * Mostly the packet filter is the only one. The verifier knows which way it is and drops the other.
 */
static __always_inline int matches(struct sk_buff *skb)
{
	__u32 filters = config.filters;

	if (filters == FILTER_PACKET)
		return accepts(skb, filter_packet((__u64)skb), false);
	return all_match(skb, filters);
}

#endif /* __MATCH_BPF_H__ */
