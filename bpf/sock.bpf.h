/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Addresses and ports of a packet that has no headers yet: as its socket knows them.
 *
 * TCP writes the headers into a clone, at each transmission anew; what is queued, sent again and
 * freed at last never has any.
 */
#ifndef __SOCK_BPF_H__
#define __SOCK_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "filter.bpf.h"
#include "origin.bpf.h"
#include "read.bpf.h"
#include "tuple.bpf.h"

#define SOCK_OFFSET(field) bpf_core_field_offset(struct sock_common, field)
#define V4MAPPED 0xffff /* of ::ffff:a.b.c.d, the third word in network order */

/* Whether the socket has an IPv6 peer; if not, it may have one of IPv4. */
static __always_inline bool capture_peer6(struct sock_common *sk, struct tuple *tuple)
{
	__u64 source = (__u64)sk + SOCK_OFFSET(skc_v6_rcv_saddr);
	__u64 peer = (__u64)sk + SOCK_OFFSET(skc_v6_daddr);
	__u64 first = load_u64(peer), second = load_u64(peer + 8);

	if (!first && (__u32)second == bpf_htonl(V4MAPPED))
		return false;
	((__u64 *)tuple->saddr)[0] = load_u64(source);
	((__u64 *)tuple->saddr)[1] = load_u64(source + 8);
	((__u64 *)tuple->daddr)[0] = first;
	((__u64 *)tuple->daddr)[1] = second;
	tuple->ip_version = first || second ? -6 : 0;
	return true;
}

static __always_inline void capture_peer4(struct sock_common *sk, struct tuple *tuple)
{
	__u32 peer = get(sk, skc_daddr);

	if (!peer)
		return;
	*(__u32 *)tuple->saddr = get(sk, skc_rcv_saddr);
	*(__u32 *)tuple->daddr = peer;
	tuple->ip_version = -4;
}

static __always_inline bool is_tcp(struct sock *sk)
{
	return sk && (__u8)get(sk, sk_protocol) == IPPROTO_TCP; /* or IPPROTO_MPTCP, 256 more */
}

/*
 * As of a packet that the socket sends, if it is connected. Only TCP: the others write the headers
 * as soon as they have the buffer.
 */
static __noinline void capture_sock_tuple(struct sock *sk, struct tuple *tuple)
{
	struct sock_common *common = (void *)sk;
	__u16 family;

	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (!is_tcp(sk))
		goto out;
	family = get(common, skc_family);
	if (family == AF_INET || (family == AF_INET6 && !capture_peer6(common, tuple)))
		capture_peer4(common, tuple);
	if (!tuple->ip_version)
		goto out;
	tuple->l4_protocol = IPPROTO_TCP;
	tuple->sport = get(common, skc_num);
	if (!tuple->sport) /* it was given back, but the RST still has it */
		tuple->sport = bpf_ntohs(get((struct inet_sock *)sk, inet_sport));
	tuple->dport = bpf_ntohs(get(common, skc_dport));
	tuple->has_ports = 1;
out:
	RETURN_VOID;
}

/* The place of a field of the skb in `fake`, whose first byte stands for the skb's byte `first`. */
#define FAKE(field)                                                                                \
	*(typeof(((struct sk_buff *)0)->field) *)((void *)fake + (SKB_OFFSET(field) - first))

#define FAKE_NETWORK 64 /* from head; 0 would be none */

/*
 * The packet filter on the headers that the socket would give the packet: so much of an skb as the
 * filter loads, on the stack. What the socket does not know is 0 in the IP header; what comes after
 * the ports is not there, so that a filter on TCP's flags does not match.
 */
static __always_inline bool filter_by_sock(struct sk_buff *skb, struct sock *sk)
{
	__u64 fake[14]; /* what is not set in it is not used */
	__u64 packet[6];
	__u32 *ip = (__u32 *)packet;
	struct tuple *tuple = (void *)&packet[1]; /* the addresses are where IPv6 has them */
	__u32 first = SKB_OFFSET(len) & ~7;
	__u32 length, ports;
	__u64 data;
	int verdict;

	barrier_var(first);
	if (!is_tcp(sk) || SKB_OFFSET(data) - first > sizeof(fake) - 8)
		return false;
	capture_sock_tuple(sk, tuple);
	ports = bpf_htons(tuple->sport) | bpf_htons(tuple->dport) << 16;
	switch (tuple->ip_version) {
	case -4:
		ip[3] = *(__u32 *)tuple->saddr;
		ip[4] = *(__u32 *)tuple->daddr;
		ip[0] = 0x45;
		ip[1] = 0;
		ip[2] = IPPROTO_TCP << 8;
		ip[5] = ports;
		length = 20 + sizeof(ports);
		break;
	case -6:
		ip[0] = 0x60;
		ip[1] = IPPROTO_TCP << 16;
		ip[10] = ports;
		length = 40 + sizeof(ports);
		break;
	default:
		return false;
	}
	data = scalar((__u64)packet);
	FAKE(len) = get(skb, len);
	FAKE(network_header) = FAKE_NETWORK;
	FAKE(mac_header) = MAC_UNSET;
	FAKE(tail) = FAKE_NETWORK + length;
	FAKE(head) = (void *)(data - FAKE_NETWORK);
	FAKE(data) = (void *)data;
	verdict = filter_packet(scalar((__u64)fake) - first);
	return verdict > 0 && verdict != BEYOND;
}

#endif /* __SOCK_BPF_H__ */
