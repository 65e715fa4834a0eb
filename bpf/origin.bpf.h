/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a packet is: which socket, which route, which device, which network namespace.
 *
 * No single field of an skb says so all the way. One that is sent has no device before it is routed
 * and no headers before it leaves TCP; one that is received loses its device, then its route, where
 * TCP takes it over, and may never have a socket of its own. So the columns and the filters ask
 * here.
 */
#ifndef __ORIGIN_BPF_H__
#define __ORIGIN_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "read.bpf.h"

#define AF_INET 2
#define AF_INET6 10
#define LOOPBACK_IFINDEX 1 /* in every namespace */
#define SKB_DST_NOREF 1
#define DST_FAKE_RTABLE 0x10
#define DST_METADATA 0x80
#define DST_METRICS_FLAGS 3
#define RTAX_MTU 2
#define TCP_TIME_WAIT 6
#define TCP_NEW_SYN_RECV 12

/*
 * First inode number of a network namespace, include/linux/ns/ns_common_types.h; before v6.18 it
 * was 0xf0000000.
 */
#define FIRST_NETNS 0xeffffff0
#define MAX_NETNS (1 << 24) /* far more than exist: proc_alloc_inum() takes the lowest */

struct origin {
	struct net_device *dev; /* NULL: none, or only its index is known */
	struct dst_entry *dst; /* NULL: none, or none that says anything */
	__u32 ifindex; /* 0: no device, or unknown */
	__u32 netns; /* 0: unknown */
};

/* 0 for what is no namespace, and so for what only looked like a device or a socket. */
static __always_inline __u32 netns_of(struct net *net)
{
	__u32 inum = net ? get(net, ns.inum) : 0;

	return inum - FIRST_NETNS < MAX_NETNS ? inum : 0;
}

/*
 * In TCP's rbtree queues dev is overlaid by an rb_node that is not cleared on removal: it is a
 * device only if it belongs to a namespace.
 */
static __always_inline __u32 device_netns(struct net_device *dev)
{
	return dev ? netns_of(get(dev, nd_net.net)) : 0;
}

static __always_inline __u32 sock_netns(struct sock *sk)
{
	return sk ? netns_of(get(sk, __sk_common.skc_net.net)) : 0;
}

/* While fragments are collected, it is overlaid by their offset. */
static __always_inline struct sock *own_sock(struct sk_buff *skb)
{
	return pointer_or_null(load_u64((__u64)skb + SKB_OFFSET(sk)));
}

/* The packet's own socket, or else `arg`, that of the traced function. */
static __always_inline struct sock *find_sock(struct sk_buff *skb, struct sock *arg)
{
	struct sock *sk = own_sock(skb);

	return sk ? sk : pointer_or_null((__u64)arg);
}

/*
 * NULL for a route that says nothing: a dead one has another device, a bridge's a made-up MTU, and
 * one with metadata of a tunnel has neither.
 */
static __always_inline struct dst_entry *live_dst(__u64 pointer)
{
	struct dst_entry *dst = pointer_or_null(pointer);

	if (!dst || get(dst, obsolete) > 0 || get(dst, flags) & (DST_METADATA | DST_FAKE_RTABLE))
		return 0;
	return dst;
}

/* A request or a time-wait socket has the first part of a socket only. */
static __noinline struct dst_entry *sock_dst(struct sock *sk)
{
	__u8 state = sk ? get(sk, __sk_common.skc_state) : TCP_TIME_WAIT;

	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return 0;
	return live_dst((__u64)get(sk, sk_dst_cache));
}

/*
 * The route of the packet or, while it waits in TCP's write queue, of its socket: there the skb's
 * field is overlaid by a list (tcp_tsorted_anchor), and there is no network header.
 */
static __always_inline struct dst_entry *find_dst(struct sk_buff *skb, struct sock *arg)
{
	if (get(skb, network_header))
		return live_dst(get(skb, _skb_refdst) & ~SKB_DST_NOREF);
	return sock_dst(find_sock(skb, arg));
}

static __always_inline bool is_device(struct net_device *dev, struct origin *origin)
{
	return device_netns(dev) == origin->netns && get(dev, ifindex) == origin->ifindex;
}

/*
 * The packet has no device now. One that was received came in by skb_iif: its route leads to lo if
 * it is for this host, but that of the answers, which the socket has, mostly to the same device.
 * One that will be sent leaves by the device of its route.
 */
static __noinline void search_origin(struct sk_buff *skb, struct sock *arg, struct origin *origin)
{
	struct sock *sk = find_sock(skb, arg);
	struct net_device *dev = origin->dst ? get(origin->dst, dev) : 0;
	struct dst_entry *answers;

	origin->netns = sock_netns(sk);
	if (!origin->netns)
		origin->netns = device_netns(dev);
	origin->ifindex = origin->netns ? get(skb, skb_iif) : 0;
	if (origin->netns && !origin->ifindex && device_netns(dev) == origin->netns)
		origin->ifindex = get(dev, ifindex);
	origin->dev = 0;
	if (!origin->ifindex)
		goto out;
	if (!is_device(dev, origin)) {
		answers = sock_dst(sk);
		dev = answers ? get(answers, dev) : 0;
	}
	if (is_device(dev, origin))
		origin->dev = dev;
out:
	RETURN_VOID;
}

/* `dev` is get_device(), `arg` the socket that the traced function has among its arguments. */
static __always_inline void find_origin(struct sk_buff *skb, struct net_device *dev,
					struct sock *arg, struct origin *origin)
{
	origin->netns = device_netns(dev);
	origin->dst = find_dst(skb, arg);
	if (origin->netns) {
		origin->dev = dev;
		origin->ifindex = get(dev, ifindex);
	} else {
		search_origin(skb, arg, origin);
	}
	/* Nothing that follows depends on the way in which it was found: see forget(). */
	origin->dev = (void *)scalar((__u64)origin->dev);
	origin->dst = (void *)scalar((__u64)origin->dst);
	origin->ifindex = forget(origin->ifindex);
	origin->netns = forget(origin->netns);
}

/* As ipv4_mtu() and ip6_mtu() find it. */
static __noinline __u32 dst_mtu(struct dst_entry *dst)
{
	__u16 family = get(get(dst, ops), family);
	struct net_device *dev = get(dst, dev);
	struct rtable *rt = (void *)dst;
	struct inet6_dev *dev6;
	__u32 mtu = 0;

	if (family == AF_INET)
		mtu = (__u64)load_u32((__u64)rt + __CORE_RELO(rt, rt_pmtu, BYTE_OFFSET))
			      << __CORE_RELO(rt, rt_pmtu, LSHIFT_U64) >>
		      __CORE_RELO(rt, rt_pmtu, RSHIFT_U64);
	if (mtu && (__s64)(bpf_jiffies64() - get(dst, expires)) >= 0)
		mtu = 0;
	if (!mtu) /* that of the route; for IPv6 also what was learnt */
		mtu = load_u32((get(dst, _metrics) & ~DST_METRICS_FLAGS) + 4 * (RTAX_MTU - 1));
	if (!mtu && family == AF_INET6) {
		dev6 = get(dev, ip6_ptr);
		mtu = dev6 ? get(dev6, cnf.mtu6) : 0;
	}
	return mtu ? mtu : get(dev, mtu);
}

/*
 * How long the packet may be on its way from here: the route knows. That of a received packet for
 * this host leads to lo and says nothing.
 */
static __always_inline __u32 find_mtu(struct origin *origin)
{
	struct net_device *via = origin->dst ? get(origin->dst, dev) : 0;

	if (via && (origin->ifindex == LOOPBACK_IFINDEX || get(via, ifindex) != LOOPBACK_IFINDEX))
		return dst_mtu(origin->dst);
	return origin->dev ? get(origin->dev, mtu) : 0;
}

#endif /* __ORIGIN_BPF_H__ */
