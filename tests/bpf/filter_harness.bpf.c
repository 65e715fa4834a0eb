// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run the packet filter, the expression and the parser of headers on fake skbs that user space wrote into
 * maps. Tests use BPF_PROG_TEST_RUN, so nothing is attached.
 */
#include "../../bpf/carrier.bpf.h"
#include "../../bpf/details.bpf.h"
#include "../../bpf/filter.bpf.h"
#include "../../bpf/match.bpf.h"
#include "../../bpf/tunnel.bpf.h"
#include "../../bpf/tuple.bpf.h"

#define MAX_PACKETS 256
#define BATCH_SIZE (512 * 1024)

#define BPF_F_MMAPABLE (1U << 10)

char LICENSE[] SEC("license") = "GPL";

struct packet {
	__u32 skb[2]; /* offsets of its two skbs, with and without a link-layer header */
	__u32 match[2]; /* the verdicts */
};

struct batch {
	__u64 address; /* the batch's own */
	__u64 count;
	struct packet packets[MAX_PACKETS];
	__u8 data[BATCH_SIZE - 16 - MAX_PACKETS * sizeof(struct packet)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct batch);
} batches SEC(".maps");

#define MAX_SKBS 16
#define SKBS_SIZE 4096

struct skb {
	__u32 offset; /* of the skb in the memory below */
	__u32 match; /* the results */
	__u64 value;
};

struct skbs {
	__u64 address; /* of the whole */
	__u64 count;
	struct skb skbs[MAX_SKBS];
	__u8 data[SKBS_SIZE - 16 - MAX_SKBS * sizeof(struct skb)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct skbs);
} skbs SEC(".maps");

/* As filter_skb(), for the value of a field. */
__noinline __u64 value_skb(__u64 skb)
{
	__u64 value;

	asm volatile("%0 = 1" : "=r"(value) : "r"(skb));
	return value;
}

/* The memory, which says its own address now, for the pointers in it. */
static __always_inline struct skbs *find_skbs(void)
{
	__u32 zero = 0;
	struct skbs *all = bpf_map_lookup_elem(&skbs, &zero);

	if (all)
		*(volatile __u64 *)&all->address = (__u64)all;
	return all;
}

/* Check each skb, at its address. With a count of 0 this only reports the address of the memory. */
static __always_inline int each_skb(void (*check)(struct skb *skb, __u64 address))
{
	struct skbs *all = find_skbs();
	__u64 address;
	__u32 i;

	if (!all)
		return 0;
	address = *(volatile __u64 *)&all->address;

	for (i = 0; i < MAX_SKBS; i++) {
		if (i >= all->count)
			break;
		check(&all->skbs[i], address + all->skbs[i].offset);
	}
	return 0;
}

static __always_inline void check_expression(struct skb *skb, __u64 address)
{
	skb->match = filter_skb(address);
	skb->value = value_skb(address);
}

SEC("raw_tp")
int run_expression(void *ctx)
{
	return each_skb(check_expression);
}

/* The filter's verdict, and as its value how C finds the same headers: length, has_mac, and the network header. */
static __always_inline void check_headers(struct skb *skb, __u64 address)
{
	struct sk_buff *buffer = (void *)address;
	__u64 payload[8] = {};
	struct headers h;

	skb->match = filter_packet(address);
	find_headers(buffer, &h);
	capture_payload(&h, find_data(buffer, h.head), get(buffer, len), (struct payload *)payload);
	skb->value = (__u64)((struct payload *)payload)->length << 32 |
		     (__u64)((struct payload *)payload)->has_mac << 16 | (__u16)h.network;
}

SEC("raw_tp")
int run_headers(void *ctx)
{
	return each_skb(check_headers);
}

/* These are global, so that the verifier looks at them once. */
__noinline int match_skb(__u64 skb)
{
	return accepts((void *)skb, filter_packet(skb), false);
}

/* The tuple in a word: versions, outer and inner, protocol, has_ports, the source's last byte, the ports. */
__noinline __u64 tuple_skb(__u64 skb)
{
	struct sk_buff *buffer = (void *)skb;
	struct tuple tuple, tunnel;
	struct headers h;

	find_headers(buffer, &h);
	capture_tuple(&h, &tuple);
	capture_tunnel(&h, &tunnel);
	return (__u64)tuple.ip_version << 60 | (__u64)tunnel.ip_version << 56 |
	       (__u64)tuple.l4_protocol << 48 | (__u64)tuple.has_ports << 40 |
	       (__u64)tuple.saddr[tuple.ip_version == 4 ? 3 : 15] << 32 |
	       (__u64)tuple.sport << 16 | tuple.dport;
}

/* Whether a packet matches, and its tuple. */
static __always_inline void check_tuples(struct skb *skb, __u64 address)
{
	skb->match = match_skb(address);
	skb->value = tuple_skb(address);
}

SEC("raw_tp")
int run_tuples(void *ctx)
{
	return each_skb(check_tuples);
}

__noinline int match_tagged(__u64 skb)
{
	return accepts((void *)skb, filter_packet(skb), true);
}

static __always_inline void check_matches(struct skb *skb, __u64 address)
{
	skb->match = match_skb(address);
}

SEC("raw_tp")
int run_matches(void *ctx)
{
	return each_skb(check_matches);
}

/* The same for a filter on packets with a tag that their bytes lack. */
static __always_inline void check_tagged(struct skb *skb, __u64 address)
{
	skb->match = match_tagged(address);
}

SEC("raw_tp")
int run_tagged(void *ctx)
{
	return each_skb(check_tagged);
}

__noinline __u64 tunnel_of_skb(__u64 skb)
{
	struct tunnel tunnel;
	struct headers h;

	find_headers((void *)skb, &h);
	find_tunnel(&h, &tunnel);
	return (__u64)tunnel.mac << 32 | tunnel.network;
}

__noinline int match_tunnel(__u64 skb)
{
	struct headers h;

	find_headers((void *)skb, &h);
	return tunnel_matches(&h, FILTER_INNER_L2 | FILTER_INNER_L3);
}

/* Whether what a tunnel carries matches, and where it begins. */
static __always_inline void check_tunnels(struct skb *skb, __u64 address)
{
	skb->match = match_tunnel(address);
	skb->value = tunnel_of_skb(address);
}

SEC("raw_tp")
int run_tunnels(void *ctx)
{
	return each_skb(check_tunnels);
}

/* With a count of 0 it only reports the address of the memory. */
SEC("raw_tp")
int run_filters(void *ctx)
{
	struct batch *batch;
	__u64 address;
	__u32 zero = 0, i;

	batch = bpf_map_lookup_elem(&batches, &zero);
	if (!batch)
		return 0;
	/* The filter takes a scalar: to the verifier, what is stored and loaded again is one. */
	*(volatile __u64 *)&batch->address = (__u64)batch;
	address = *(volatile __u64 *)&batch->address;

	for (i = 0; i < MAX_PACKETS; i++) {
		struct packet *packet = &batch->packets[i];

		if (i >= batch->count)
			break;
		packet->match[0] = filter_packet(address + packet->skb[0]);
		packet->match[1] = filter_packet(address + packet->skb[1]);
	}
	return 0;
}
