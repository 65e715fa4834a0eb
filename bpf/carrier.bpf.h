/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What carries a packet: where its headers are, and what the kernel notes about it.
 *
 * The parts of an event are captured from struct headers, struct fields and struct origin, see
 * origin.bpf.h. Another carrier (struct xdp_buff) needs its own find_headers(), find_data(),
 * load_fields() and find_origin(), and shares what captures the parts.
 */
#ifndef __CARRIER_BPF_H__
#define __CARRIER_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "read.bpf.h"

#define ETH_HLEN 14
#define MAC_UNSET 0xffff /* skb_mac_header_was_set() */

#define SKB_OFFSET(field) bpf_core_field_offset(struct sk_buff, field)
#define XDP_OFFSET(field) bpf_core_field_offset(struct xdp_buff, field)
#define FROM_PROTOCOL(field) (SKB_OFFSET(field) - SKB_OFFSET(protocol))

/* Where the headers are. Positions are offsets from head; 0 is never one. */
struct headers {
	struct sk_buff *skb;
	__u64 head;
	__u32 tail; /* end of what can be read at head */
	__u32 mac; /* 0 or MAC_UNSET: none */
	__u32 network; /* 0: none */
	__be16 protocol; /* EtherType, 0: not known yet */
};

/* Whether a link-layer header precedes the network header. */
static __always_inline bool has_mac(const struct headers *h)
{
	return h->mac && h->network - h->mac - ETH_HLEN <= MAX_TAGS;
}

/* What the kernel notes about the packet. */
struct fields {
	struct net_device *dev;
	__u32 mark;
	__u32 len;
	__be16 protocol;
};

/* As an offset from head. Rarely needed: not inlined, so that it costs nobody else a register. */
static __noinline __u32 find_data(struct sk_buff *skb, __u64 head)
{
	return load_u64((__u64)skb + SKB_OFFSET(data)) - head;
}

/*
 * The packet filter finds the headers, too, in assembler (pwru/filter/packet/skb.py): that saves 50
 * of the 201 instructions per hit that C needed. Both must agree on where the network header is
 * before it is set, on MAC_UNSET, and on MAX_TAGS.
 */
static __always_inline void find_headers(struct sk_buff *skb, struct headers *h)
{
	h->skb = skb;
	if (CAN_CAST) {
		/*
		 * Three in one word, unless CONFIG_KCOV has something between them, are one load.
		 * The verifier knows which way it is.
		 */
		const void *from = span((__u64)skb + SKB_OFFSET(protocol));
		__u64 word = *(const __u64 *)(from + FROM_PROTOCOL(network_header));

		if (SKB_OFFSET(mac_header) - SKB_OFFSET(network_header) == 2 &&
		    SKB_OFFSET(tail) - SKB_OFFSET(network_header) == 4) {
			h->network = (__u16)word;
			h->mac = (__u16)(word >> 16);
			h->tail = word >> 32;
		} else {
			h->network = (__u16)word;
			h->mac = cast(skb)->mac_header;
			h->tail = cast(skb)->tail;
		}
		h->head = *(const __u64 *)(from + FROM_PROTOCOL(head));
		h->protocol = *(const __be16 *)from;
	} else {
		/* These lie side by side: one call for all. */
		__u32 first = SKB_OFFSET(protocol) & ~7;
		__u64 words[6];
		void *from;

		barrier_var(first); /* or clang would add with |=, which no pointer may */
		from = (void *)words + (SKB_OFFSET(protocol) - first);
		read_mem(words, SKB_OFFSET(head) + 8 - first, (__u64)skb + first);
		h->network = *(__u16 *)(from + FROM_PROTOCOL(network_header));
		h->mac = *(__u16 *)(from + FROM_PROTOCOL(mac_header));
		h->tail = *(__u32 *)(from + FROM_PROTOCOL(tail));
		h->head = *(__u64 *)(from + FROM_PROTOCOL(head));
		h->protocol = *(__be16 *)from;
	}
	/*
	 * A driver hands up a packet with the MAC header set (eth_type_trans()) and pulled, and no
	 * network header yet: it begins at data.
	 */
	if (!h->network && h->mac && h->mac != MAC_UNSET)
		h->network = find_data(skb, h->head);
}

/*
 * NULL for what is no address of the kernel. While an skb is queued on a UDP socket, dev holds
 * dev_scratch, not a pointer: it would be read as 0, too, but by way of a fault.
 */
static __always_inline void *pointer_or_null(__u64 pointer)
{
	return (__s64)pointer < 0 ? (void *)pointer : 0;
}

static __always_inline __u64 get_head(struct sk_buff *skb)
{
	return load_u64((__u64)skb + SKB_OFFSET(head));
}

static __always_inline struct net_device *get_device(struct sk_buff *skb)
{
	return pointer_or_null(load_u64((__u64)skb + SKB_OFFSET(dev)));
}

static __always_inline __u64 frame_start(struct xdp_buff *xdp)
{
	return load_u64((__u64)xdp + XDP_OFFSET(data_hard_start));
}

/* The queue that the frame came from. */
static __always_inline __u64 frame_queue(struct xdp_buff *xdp)
{
	return load_u64((__u64)xdp + XDP_OFFSET(rxq));
}

static __always_inline struct net_device *queue_device(__u64 queue)
{
	return pointer_or_null(load_u64(queue + bpf_core_field_offset(struct xdp_rxq_info, dev)));
}

static __always_inline void load_fields(struct sk_buff *skb, struct fields *fields)
{
	if (CAN_CAST) {
		fields->dev = get_device(skb);
		fields->mark = get(skb, mark);
		fields->len = get(skb, len);
		fields->protocol = get(skb, protocol);
	} else {
		/*
		 * One call for all and for what lies between them costs less than one for each, but
		 * dev is too far from the others: the stack is short.
		 */
		__u64 words[12];
		__u32 first = SKB_OFFSET(len);

		fields->dev = get_device(skb);
		read_mem(words, SKB_OFFSET(protocol) + 2 - first, (__u64)skb + first);
		fields->mark = *(__u32 *)((void *)words + (SKB_OFFSET(mark) - first));
		fields->len = *(__u32 *)words;
		fields->protocol = *(__be16 *)((void *)words + (SKB_OFFSET(protocol) - first));
	}
}

/* skb_vlan_tag_present() */
static __always_inline bool notes_tag(struct sk_buff *skb)
{
	struct sk_buff___old *old = (void *)skb;

	return bpf_core_field_exists(skb->vlan_all) ?
		       get(skb, vlan_all) != 0 :
		       BPF_CORE_READ_BITFIELD_PROBED(old, vlan_present) != 0;
}

/*
 * skb_vlan_untag() notes a received packet's outer tag in the skb before it takes it out of the
 * bytes. Two tags that are the same are counted as one until then.
 */
static __always_inline bool is_tag_in_bytes(const struct headers *h)
{
	__u32 tag = load_u32(h->head + h->mac + ETH_HLEN - 2);

	return has_mac(h) && find_data(h->skb, h->head) > h->mac &&
	       (__be16)tag == get(h->skb, vlan_proto) &&
	       bpf_ntohs(tag >> 16) == get(h->skb, vlan_tci);
}

#endif /* __CARRIER_BPF_H__ */
