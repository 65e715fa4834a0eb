/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Addresses and ports, of the packet and of the packet inside a tunnel's headers.
 */
#ifndef __TUPLE_BPF_H__
#define __TUPLE_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "read.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define MAX_EXTENSION_HEADERS 8

static __always_inline void capture_ports(const struct headers *h, __u32 at, __u32 ports,
					  struct tuple *tuple)
{
	if (tuple->l4_protocol != IPPROTO_TCP && tuple->l4_protocol != IPPROTO_UDP)
		return;
	if (at + sizeof(ports) > h->tail)
		return;
	tuple->sport = bpf_ntohs(ports & 0xffff);
	tuple->dport = bpf_ntohs(ports >> 16);
	tuple->has_ports = 1;
	if (config.tcp_flags && tuple->l4_protocol == IPPROTO_TCP && at + 14 <= h->tail)
		tuple->tcp_flags = load_u32(h->head + at + 12) >> 8;
}

static __always_inline void capture_ipv4(const struct headers *h, __u32 network,
					 const __u64 words[6], struct tuple *tuple)
{
	const __u32 *ip = (const __u32 *)words;
	__u32 length = (ip[0] & 0xf) * 4;
	__u32 at = network + length;

	if (network + 20 > h->tail)
		return;
	tuple->ip_version = 4;
	tuple->l4_protocol = ip[2] >> 8;
	*(__u32 *)tuple->saddr = ip[3];
	*(__u32 *)tuple->daddr = ip[4];
	/* Only the first fragment has the ports. */
	if (!(ip[1] & bpf_htonl(0x1fff)))
		capture_ports(h, at, length == 20 ? ip[5] : load_u32(h->head + at), tuple);
}

/* RFC 8200: extension headers stand between the IPv6 header and what the packet carries. */
static __always_inline void capture_ipv6(const struct headers *h, __u32 network,
					 const __u64 words[6], struct tuple *tuple)
{
	__u32 at = network + 40;
	__u32 next = words[0] >> 48 & 0xff;
	__u32 word = words[5]; /* the first of the header at `at` */

	if (at > h->tail)
		return;
	tuple->ip_version = 6;
	((__u64 *)tuple->saddr)[0] = words[1];
	((__u64 *)tuple->saddr)[1] = words[2];
	((__u64 *)tuple->daddr)[0] = words[3];
	((__u64 *)tuple->daddr)[1] = words[4];
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		tuple->l4_protocol = next;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_AH && next != IPPROTO_FRAGMENT) {
			capture_ports(h, at, word, tuple);
			return;
		}
		if (at + 4 > h->tail)
			return;
		if (next == IPPROTO_FRAGMENT) {
			if (word & bpf_htonl(0xfff8)) {
				tuple->l4_protocol = word;
				return;
			}
			at += 8;
		} else if (next == IPPROTO_AH) {
			at += ((word >> 8 & 0xff) + 2) * 4; /* RFC 4302 counts in 4 bytes */
		} else {
			at += ((word >> 8 & 0xff) + 1) * 8;
		}
		next = word & 0xff;
		word = load_u32(h->head + at);
	}
}

static __always_inline void capture_ip(const struct headers *h, __u32 network, struct tuple *tuple)
{
	__u64 words[6];
	__u32 version;

	if (!network || network >= h->tail)
		return;
	/* All of them are readable: after the data of an skb comes its skb_shared_info. */
	load_words(h->head + network, words);
	version = words[0] >> 4 & 0xf;
	if (version == 4)
		capture_ipv4(h, network, words, tuple);
	else if (version == 6)
		capture_ipv6(h, network, words, tuple);
}

/*
 * A driver hands up a packet with the network header at its first tag. Where it is after a tag that
 * does not precede IP is unknown.
 */
static __always_inline __u32 skip_tag(const struct headers *h)
{
	__u16 protocol;

	if (h->network - h->mac != ETH_HLEN)
		return h->network;
	protocol = bpf_ntohs(load_u32(h->head + h->network) >> 16);
	return protocol == ETH_P_IP || protocol == ETH_P_IPV6 ? h->network + 4 : 0;
}

/*
 * The version nibble alone is no proof of IP: other protocols have what they like there. A packet
 * on its way out has no protocol yet, or that of a tag in front.
 */
static __always_inline __u32 find_ip(const struct headers *h)
{
	switch (bpf_ntohs(h->protocol)) {
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		return skip_tag(h);
	case ETH_P_IP:
	case ETH_P_IPV6:
	case 0:
		return h->network;
	default:
		return 0;
	}
}

static __noinline void capture_tuple(const struct headers *headers, struct tuple *tuple)
{
	struct headers h = *headers;

	__builtin_memset(tuple, 0, sizeof(*tuple));
	capture_ip(&h, find_ip(&h), tuple);
	RETURN_VOID;
}

/* `inner` is find_inner(). */
static __noinline void capture_tunnel(const struct headers *headers, __u32 inner,
				      struct tuple *tuple)
{
	struct headers h = *headers;

	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (inner > h.network)
		capture_ip(&h, inner, tuple);
	RETURN_VOID;
}

#endif /* __TUPLE_BPF_H__ */
