// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run the packet filter, the expression and find_headers() on fake skbs that user space wrote into
 * maps. Tests use BPF_PROG_TEST_RUN, so nothing is attached.
 */
#include "../../bpf/carrier.bpf.h"
#include "../../bpf/details.bpf.h"
#include "../../bpf/filter.bpf.h"

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

/* With a count of 0 it only reports the address of the memory. */
SEC("raw_tp")
int run_expression(void *ctx)
{
	struct skbs *all = find_skbs();
	__u64 address;
	__u32 i;

	if (!all)
		return 0;
	address = *(volatile __u64 *)&all->address;

	for (i = 0; i < MAX_SKBS; i++) {
		struct skb *skb = &all->skbs[i];

		if (i >= all->count)
			break;
		skb->match = filter_skb(address + skb->offset);
		skb->value = value_skb(address + skb->offset);
	}
	return 0;
}

/* The filter's verdict, and as its value how C finds the same headers: length, has_mac, and the network header. */
SEC("raw_tp")
int run_headers(void *ctx)
{
	struct skbs *all = find_skbs();
	__u64 address;
	__u32 i;

	if (!all)
		return 0;
	address = *(volatile __u64 *)&all->address;

	for (i = 0; i < MAX_SKBS; i++) {
		struct skb *skb = &all->skbs[i];
		__u64 payload[8] = {};
		struct sk_buff *buffer;
		struct headers h;

		if (i >= all->count)
			break;
		skb->match = filter_packet(address + skb->offset);
		buffer = (void *)(address + skb->offset);
		find_headers(buffer, &h);
		capture_payload(&h, find_data(buffer, h.head), get(buffer, len), (struct payload *)payload);
		skb->value = (__u64)((struct payload *)payload)->length << 32 |
			     (__u64)((struct payload *)payload)->has_mac << 16 | (__u16)h.network;
	}
	return 0;
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
