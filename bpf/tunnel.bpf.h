/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the packet inside a tunnel's packet begins. The kernel notes it in the skb when it
 * encapsulates a packet; of one that arrives only the bytes tell.
 */
#ifndef __TUNNEL_BPF_H__
#define __TUNNEL_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "ip.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

#define IPPROTO_IPIP 4
#define IPPROTO_IPV6 41
#define IPPROTO_GRE 47
#define ETH_P_ARP 0x0806
#define ETH_P_TEB 0x6558 /* an Ethernet frame */
#define VXLAN_PORT 4789
#define VXLAN_OLD_PORT 8472 /* Linux' default, from before there was a standard */
#define VXLAN_GPE_PORT 4790
#define GENEVE_PORT 6081

/* Offsets from head. */
struct tunnel {
	__u32 mac; /* of the inner link-layer header; 0: it has none */
	__u32 network; /* of the inner network header; 0: the packet is in no tunnel that is known */
};

static __always_inline void carries_frame(const struct headers *h, __u32 mac, struct tunnel *tunnel)
{
	__u32 at = mac + ETH_HLEN;

	if (at > h->tail)
		return;
	for (int i = 0; i < MAX_STACKED_TAGS; i++) {
		if (!is_tag_type(bpf_ntohs(load_u32(h->head + at - 2))))
			break;
		at += 4;
	}
	tunnel->mac = mac;
	tunnel->network = at;
}

/* `type` is an EtherType. */
static __always_inline void carries(const struct headers *h, __u16 type, __u32 at,
				    struct tunnel *tunnel)
{
	if (type == ETH_P_TEB)
		carries_frame(h, at, tunnel);
	else if (is_ip_type(type))
		tunnel->network = at;
}

/* RFC 2784 and 2890: each of three flags stands for 4 more bytes. */
static __always_inline void find_in_gre(const struct headers *h, __u32 at, struct tunnel *tunnel)
{
	__u32 word = bpf_ntohl(load_u32(h->head + at));

	if (word & 0x40070000) /* with routing, or another version */
		return;
	at += 4 + (word >> 31) * 4 + (word >> 29 & 1) * 4 + (word >> 28 & 1) * 4;
	carries(h, word, at, tunnel);
}

/*
 * Ports are a matter of configuration: on others than the usual ones a header counts if it has what
 * no option changes, and what follows looks like a frame.
 */
static __always_inline bool is_frame(const struct headers *h, const struct tunnel *tunnel)
{
	__u16 type = bpf_ntohs(load_u32(h->head + tunnel->network - 2));

	return tunnel->mac && (type == ETH_P_ARP ||
			       (is_ip_type(type) && is_of_type(h, tunnel->network)));
}

static __always_inline void find_in_udp(const struct headers *h, __u32 at, struct tunnel *tunnel)
{
	__u16 port = bpf_ntohs(load_u32(h->head + at) >> 16);
	__u64 word = load_u64(h->head + at + 8);
	__u16 type = bpf_ntohs(word >> 16);

	at += 16;
	if (port == GENEVE_PORT) { /* RFC 8926; its options are counted in 4 bytes */
		if (!(word & 0xc0))
			carries(h, type, at + (word & 0x3f) * 4, tunnel);
	} else if (port == VXLAN_GPE_PORT) { /* the next protocol: IPv4, IPv6, Ethernet */
		switch (word & 0xff00000c) {
		case 0x0100000c:
		case 0x0200000c:
			tunnel->network = at;
			break;
		case 0x0300000c:
			carries_frame(h, at, tunnel);
		}
	} else if (port == VXLAN_PORT || port == VXLAN_OLD_PORT) { /* RFC 7348 */
		if (word & 8)
			carries_frame(h, at, tunnel);
	} else {
		if ((word & 0xff000000ffffffff) == 8)
			carries_frame(h, at, tunnel);
		else if (!(word & 0xff00000000003fc0) && type == ETH_P_TEB)
			carries_frame(h, at + (word & 0x3f) * 4, tunnel);
		if (tunnel->network && !is_frame(h, tunnel))
			*tunnel = (struct tunnel){};
	}
}

static __noinline void find_in_bytes(const struct headers *headers, struct tunnel *tunnel)
{
	struct headers h = *headers;
	struct tunnel found = {};
	__u8 protocol;
	__u32 at = find_transport(&h, find_ip(&h), &protocol);

	if (!at)
		goto out;
	switch (protocol) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		found.network = at;
		break;
	case IPPROTO_GRE:
		find_in_gre(&h, at, &found);
		break;
	case IPPROTO_UDP:
		find_in_udp(&h, at, &found);
	}
	if (found.network > h.tail)
		found = (struct tunnel){};
out:
	*tunnel = found;
	RETURN_VOID;
}

/*
 * What the kernel noted comes after the network header while a tunnel's headers are in front of it.
 * skb->encapsulation does not say so: it is 0 if no checksum is left to the device
 * (iptunnel_handle_offloads()). An inner header that was never set does not come after the other:
 * skb_headers_offset_update() moves both. GRO sets only the inner network header.
 */
static __always_inline void find_tunnel(const struct headers *h, struct tunnel *tunnel)
{
	__u32 network = h->skb ? get(h->skb, inner_network_header) : 0;
	__u32 mac = h->skb ? get(h->skb, inner_mac_header) : 0;

	if (network <= h->network) {
		find_in_bytes(h, tunnel);
		return;
	}
	if (mac > h->network && mac + ETH_HLEN <= network) {
		*tunnel = (struct tunnel){ mac, network };
		return;
	}
	tunnel->mac = 0;
	if (config.filters & FILTER_INNER_L2) {
		find_in_bytes(h, tunnel);
		if (tunnel->network != network)
			tunnel->mac = 0;
	}
	tunnel->network = network;
}

#endif /* __TUNNEL_BPF_H__ */
