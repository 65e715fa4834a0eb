/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet in one piece: what an skb has at head, then its page fragments, then the skbs of its
 * frag_list. A sender's payload mostly lies in fragments.
 */
#ifndef __FRAGMENTS_BPF_H__
#define __FRAGMENTS_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

#define WHOLE_SIZE 2048 /* a power of two: no more bytes of a packet are put together */
#define MAX_FRAGS 8 /* the verifier walks through each; mostly one or two are as long as that */
#define MAX_IN_LIST 3
#define ADDRESSES_LEN 12 /* of an Ethernet header; then comes a tag */
#define SHARED_OFFSET(field) bpf_core_field_offset(struct skb_shared_info, field)

struct whole {
	/* Where the packet is at head: see struct headers. */
	__u64 head;
	__u32 start; /* its first header */
	__u32 tail;
	__u32 length; /* from `start` on */
	__u32 has_mac; /* `start` is a link-layer header */
	__u32 size;
	__u32 limit; /* no more bytes are wanted */
	__u16 busy; /* the program was interrupted by another one, which does without */
	__u16 ended; /* what comes next could not be read */
	__u8 bytes[2 * WHOLE_SIZE]; /* twice, so that the verifier sees that all fits */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct whole);
} wholes SEC(".maps");

static __always_inline void append(struct whole *whole, __u64 from, __u32 size)
{
	__u32 at = whole->size;

	if (at >= whole->limit || whole->ended)
		return;
	if (size > whole->limit - at)
		size = whole->limit - at;
	at &= WHOLE_SIZE - 1;
	barrier_var(size);
	if (size > WHOLE_SIZE)
		return;
	whole->ended = bpf_probe_read_kernel(whole->bytes + at, size, (void *)from) != 0;
	if (!whole->ended)
		whole->size = at + size;
}

/*
 * The kernel maps all memory in one piece, and has the struct pages of it in another one. An odd
 * address is none of a page but of memory of a device, since commit 8f0b3cc9a4c1 ("tcp: RX path for
 * devmem TCP"), v6.12.
 */
static __always_inline __u64 page_address(__u64 page)
{
	__u64 number = (page - config.first_page) / bpf_core_type_size(struct page);

	return page & 1 ? 0 : config.first_address + number * config.page_size;
}

/*
 * A fragment is a page, a length and an offset: a struct bio_vec since v5.4, a struct skb_frag, with
 * the same layout, since commit 21d2e6737c97 ("net: add netmem to skb_frag_t"), v6.9.
 */
static __noinline void append_fragments(struct whole *whole, __u64 shared)
{
	__u32 count = load_u32(shared + SHARED_OFFSET(nr_frags)) & 0xff;
	__u64 frag = shared + SHARED_OFFSET(frags);

	for (__u32 i = 0; i < MAX_FRAGS; i++) {
		__u64 lengths = load_u64(frag + 8);

		if (i >= count || whole->size >= whole->limit)
			break;
		append(whole, page_address(load_u64(frag)) + (lengths >> 32), lengths);
		frag += 16;
	}
	RETURN_VOID;
}

static __always_inline __u64 shared_info(struct sk_buff *skb)
{
	return get_head(skb) + get(skb, end);
}

static __always_inline void append_list(struct whole *whole, __u64 skb)
{
	for (int i = 0; i < MAX_IN_LIST; i++) {
		struct sk_buff *next = (void *)skb;

		if (!skb || whole->size >= whole->limit)
			break;
		append(whole, load_u64(skb + SKB_OFFSET(data)), get(next, len) - get(next, data_len));
		append_fragments(whole, shared_info(next));
		skb = load_u64(skb + SKB_OFFSET(next));
	}
}

/* NULL if fragments cannot be read here, or the program interrupted another one that holds it. */
static __always_inline struct whole *hold(void)
{
	__u32 zero = 0;
	struct whole *whole = config.first_page ? bpf_map_lookup_elem(&wholes, &zero) : 0;

	if (!whole || whole->busy)
		return 0;
	whole->busy = 1;
	return whole;
}

/*
 * Put together the first bytes of the packet, `limit` at most, from `start` on, with the VLAN tag that
 * its bytes lack if it is `tagged`. Return whether there is more than what is at head.
 */
static __noinline int collect(struct whole *whole, struct sk_buff *skb, bool tagged, __u32 limit)
{
	__u32 start = whole->start;

	if (!get(skb, data_len) || start > whole->tail)
		return 0;
	whole->ended = 0;
	whole->size = 0;
	whole->limit = limit;
	if (tagged) {
		append(whole, whole->head + start, ADDRESSES_LEN);
		*(__be16 *)(whole->bytes + ADDRESSES_LEN) = get(skb, vlan_proto);
		*(__be16 *)(whole->bytes + ADDRESSES_LEN + 2) = bpf_htons(get(skb, vlan_tci));
		whole->size = ADDRESSES_LEN + 4;
		start += ADDRESSES_LEN;
	}
	append(whole, whole->head + start, whole->tail - start);
	append_fragments(whole, shared_info(skb));
	append_list(whole, load_u64(shared_info(skb) + SHARED_OFFSET(frag_list)));
	return 1;
}

static __always_inline void release(struct whole *whole)
{
	whole->busy = 0;
}

#endif /* __FRAGMENTS_BPF_H__ */
