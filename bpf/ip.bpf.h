/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the IP header of a packet is, if it has one. Encryption leaves the network header where the
 * clear text began, a decapsulation sets it before it is known what is there, and protocols other
 * than IP have what they like in their first four bits.
 */
#ifndef __IP_BPF_H__
#define __IP_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "carrier.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021AD 0x88a8
#define ETH_P_QINQ1 0x9100
#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ESP 50
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define MAX_EXTENSION_HEADERS 8
#define MAX_STACKED_TAGS 4

/*
 * What may come after an IP packet before it is trimmed: a checksum of 16 bytes (WireGuard, MACsec)
 * and padding, of an Ethernet frame up to 26 bytes.
 */
#define MAX_TRAILER 64

static __always_inline bool is_ip_type(__u16 type)
{
	return type == ETH_P_IP || type == ETH_P_IPV6;
}

static __always_inline bool is_tag_type(__u16 type)
{
	return type == ETH_P_8021Q || type == ETH_P_8021AD || type == ETH_P_QINQ1;
}

/* From the link-layer header, past all VLAN tags. 0 if that says another protocol. */
static __always_inline __u32 find_ip_after_mac(const struct headers *h)
{
	__u32 at = h->mac + ETH_HLEN;

	for (int i = 0; i <= MAX_STACKED_TAGS; i++) {
		__u16 type = bpf_ntohs(load_u32(h->head + at - 2));

		if (is_ip_type(type))
			return at;
		if (!is_tag_type(type))
			return 0;
		at += 4;
	}
	return 0;
}

/* Whether the header has the version of the EtherType before it; or else the receiver drops it. */
static __always_inline bool is_of_type(const struct headers *h, __u32 at)
{
	__u32 word = load_u32(h->head + at - 2);

	return (word >> 20 & 0xf) == (bpf_ntohs(word) == ETH_P_IP ? 4 : 6);
}

/* What an IP header says of itself. */
struct lengths {
	__u32 header; /* 0: it is none */
	__u32 total; /* 0: written later, or too large to be written (BIG TCP) */
};

static __always_inline struct lengths find_lengths(const struct headers *h, __u32 at)
{
	__u64 word = load_u64(h->head + at);
	__u32 header = (word & 0xf) * 4;
	__u16 payload = bpf_ntohs(word >> 32);

	switch (word >> 4 & 0xf) {
	case 4:
		if (header >= 20 && at + 20 <= h->tail)
			return (struct lengths){ header, bpf_ntohs(word >> 16) };
		break;
	case 6:
		if (at + 40 <= h->tail)
			return (struct lengths){ 40, payload ? payload + 40 : 0 };
		break;
	}
	return (struct lengths){};
}

/* How many bytes the packet has from there on. */
static __always_inline __u32 length_from(const struct headers *h, __u32 at)
{
	if (!h->skb) /* a frame of XDP */
		return h->tail - at;
	return find_data(h->skb, h->head) + get(h->skb, len) - at;
}

/*
 * Whether IP begins at the network header, where no link-layer header says so.
 *
 * The lengths in the header prove it, but they are the last that is written (__ip_local_out()), on
 * top of what was in that memory, and segments keep those of the whole until they are finished. At
 * those times the packet begins at the network header or after it, and a transport header follows.
 * In what was encrypted in place there is one, too, but something has been put in front.
 *
 * skb->protocol is 0 on the way out until IP is done, and it is that of the inner packet while the
 * headers of a tunnel are made.
 */
static __always_inline bool is_ip_at_network(const struct headers *h)
{
	__u16 type = bpf_ntohs(h->protocol);
	bool other = type && !is_ip_type(type) && !is_tag_type(type);
	struct lengths lengths = find_lengths(h, h->network);
	__u32 transport, end = h->network + lengths.header;

	if (!lengths.header)
		return false;
	if (find_data(h->skb, h->head) >= h->network) {
		transport = get(h->skb, transport_header);
		if (transport == end || (!other && transport > end && transport <= h->tail))
			return true;
	}
	if (other)
		return false;
	return !lengths.total || length_from(h, h->network) - lengths.total < MAX_TRAILER;
}

/*
 * The IP header's offset from head; 0 if the packet has none. A link-layer header is believed, as
 * the receiver does: what is wrong with the packet then is for the receiver to find. An old one may
 * be left, of a protocol that has been removed since (MPLS).
 */
static __always_inline __u32 find_ip(const struct headers *h)
{
	if (has_mac(h)) {
		__u32 at = find_ip_after_mac(h);

		if (at >= h->network)
			return is_of_type(h, at) ? forget(at) : 0;
	}
	return h->network && is_ip_at_network(h) ? forget(h->network) : 0;
}

/* Whether the packet has been encrypted by IPsec: the headers of the inner one remain set. */
static __always_inline bool is_esp(const struct headers *h)
{
	__u32 at = find_ip(h);
	__u64 first = load_u64(h->head + at);
	__u8 protocol = (first & 0xf0) == 0x40 ? load_u64(h->head + at + 8) >> 8 : first >> 48;

	return at && protocol == IPPROTO_ESP;
}

/*
 * The same for the packet inside a tunnel's headers, at find_tunnel(). It was complete before the
 * tunnel's headers came, and may be larger now: it may have been merged with others (GRO).
 */
static __always_inline __u32 find_inner_ip(const struct headers *h, __u32 inner)
{
	struct lengths lengths = find_lengths(h, inner);

	if (inner <= h->network || !lengths.header || is_esp(h))
		return 0;
	return lengths.total <= length_from(h, inner) ? forget(inner) : 0;
}

/*
 * Where the header after that of IP begins, which `at` is the offset of, and after the extension
 * headers of IPv6 (RFC 8200); 0 if there is none, as in a fragment that is not the first.
 */
static __always_inline __u32 find_transport(const struct headers *h, __u32 at, __u8 *protocol)
{
	__u64 word = load_u64(h->head + at);

	if (!at)
		return 0;
	if ((word >> 4 & 0xf) == 4) {
		*protocol = load_u32(h->head + at + 8) >> 8;
		return word >> 48 & bpf_htons(0x1fff) ? 0 : at + (word & 0xf) * 4;
	}
	*protocol = word >> 48;
	at += 40;
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		word = load_u32(h->head + at);
		switch (*protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			at += ((word >> 8 & 0xff) + 1) * 8;
			break;
		case IPPROTO_AH: /* RFC 4302 counts in 4 bytes */
			at += ((word >> 8 & 0xff) + 2) * 4;
			break;
		case IPPROTO_FRAGMENT:
			if (word & bpf_htonl(0xfff8))
				return 0;
			at += 8;
			break;
		default:
			return at;
		}
		if (at > h->tail)
			return 0;
		*protocol = word;
	}
	return 0;
}

#endif /* __IP_BPF_H__ */
