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
#include "ip.bpf.h"
#include "read.bpf.h"
#include "tunnel.bpf.h"

/*
 * Room for a UDP header is made long before udp_send_skb() fills it in. Until then it has what was
 * in that memory, and the packet has a socket but no device. `word` is the first of the header at
 * `at`, `payload` the length by IP: if that is written, it shows the same with less.
 */
static __always_inline bool is_udp_written(const struct headers *h, __u32 at, __u64 word,
					   __u16 payload)
{
	__u16 length = bpf_ntohs(word >> 32);

	return (length && length == payload) || get_device(h->skb) || !get(h->skb, sk) ||
	       length == (__u16)length_from(h, at);
}

/*
 * Where the packet ends, by its IP header that begins at `network`: padding may follow. A received
 * packet's length is believed; another one's may not be written yet.
 */
static __always_inline __u32 find_end(const struct headers *h, __u32 network, __u32 length)
{
	bool shorter = length && network + length < h->tail;

	return shorter && has_mac(h) ? network + length : h->tail;
}

static __always_inline void capture_ports(const struct headers *h, __u32 at, __u32 end, __u32 ports,
					  struct tuple *tuple)
{
	if (tuple->l4_protocol != IPPROTO_TCP && tuple->l4_protocol != IPPROTO_UDP)
		return;
	if (at + sizeof(ports) > end)
		return;
	tuple->sport = bpf_ntohs(ports & 0xffff);
	tuple->dport = bpf_ntohs(ports >> 16);
	tuple->has_ports = 1;
	if (config.tcp_flags && tuple->l4_protocol == IPPROTO_TCP && at + 14 <= end)
		tuple->tcp_flags = load_u32(h->head + at + 12) >> 8;
}

static __always_inline void capture_ipv4(const struct headers *h, __u32 network,
					 const __u64 words[6], struct tuple *tuple)
{
	const __u32 *ip = (const __u32 *)words;
	__u32 length = (ip[0] & 0xf) * 4;
	__u32 at = network + length;
	__u16 total = bpf_ntohs(ip[0] >> 16);
	__u64 word;

	if (network + 20 > h->tail)
		return;
	tuple->ip_version = 4;
	tuple->l4_protocol = ip[2] >> 8;
	*(__u32 *)tuple->saddr = ip[3];
	*(__u32 *)tuple->daddr = ip[4];
	/* Only the first fragment has the ports. */
	if (length < 20 || ip[1] & bpf_htonl(0x1fff))
		return;
	word = length == 20 ? (__u64)ip[6] << 32 | ip[5] : load_u64(h->head + at);
	if (tuple->l4_protocol != IPPROTO_UDP ||
	    is_udp_written(h, at, word, total - length))
		capture_ports(h, at, find_end(h, network, total), word, tuple);
}

/* RFC 8200: extension headers stand between the IPv6 header and what the packet carries. */
static __always_inline void capture_ipv6(const struct headers *h, __u32 network,
					 const __u64 words[6], struct tuple *tuple)
{
	__u32 at = network + 40;
	__u32 next = words[0] >> 48 & 0xff;
	__u64 word = words[5]; /* the first of the header at `at` */
	__u16 payload = bpf_ntohs(words[0] >> 32);
	__u32 end = at + payload;

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
			if (next != IPPROTO_UDP || is_udp_written(h, at, word, end - at))
				capture_ports(h, at, find_end(h, network, payload ? end - network : 0),
					      word, tuple);
			return;
		}
		if (at + 4 > h->tail)
			return;
		if (next == IPPROTO_FRAGMENT) {
			if ((__u32)word & bpf_htonl(0xfff8)) {
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
		word = load_u64(h->head + at);
	}
}

static __always_inline void capture_ip(const struct headers *h, __u32 network, struct tuple *tuple)
{
	__u64 words[6];
	__u32 version;

	if (!network)
		return;
	/* All of them are readable: after the data of an skb comes its skb_shared_info. */
	load_words(h->head + network, words);
	version = words[0] >> 4 & 0xf;
	if (version == 4)
		capture_ipv4(h, network, words, tuple);
	else if (version == 6)
		capture_ipv6(h, network, words, tuple);
}

static __noinline void capture_tuple(const struct headers *headers, struct tuple *tuple)
{
	struct headers h = *headers;

	__builtin_memset(tuple, 0, sizeof(*tuple));
	capture_ip(&h, find_ip(&h), tuple);
	RETURN_VOID;
}

/* Apart from the search for it: the stack that both take together is short. */
static __noinline void capture_inner(const struct headers *headers, __u32 network, struct tuple *tuple)
{
	struct headers h = *headers;

	capture_ip(&h, find_inner_ip(&h, network), tuple);
	RETURN_VOID;
}

static __noinline void capture_tunnel(const struct headers *headers, struct tuple *tuple)
{
	struct tunnel tunnel;

	find_tunnel(headers, &tunnel);
	__builtin_memset(tuple, 0, sizeof(*tuple));
	capture_inner(headers, tunnel.network, tuple);
	RETURN_VOID;
}

#endif /* __TUPLE_BPF_H__ */
