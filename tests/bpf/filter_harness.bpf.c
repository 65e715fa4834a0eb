// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the packet filter on a batch of packets, and the expression on a few skbs, that user space wrote into a map: for
 * tests, with BPF_PROG_TEST_RUN, so nothing is attached.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "../../bpf/filter.bpf.h"

#define MAX_PACKETS 256
#define BATCH_SIZE (256 * 1024)

#define BPF_F_MMAPABLE (1U << 10)

char LICENSE[] SEC("license") = "GPL";

struct packet {
	__u32 offset; /* of the first byte in the batch */
	__u32 caplen;
	__u32 len;
	__u32 l2; /* the verdicts */
	__u32 l3;
};

/* Whole pages: what ends with the batch is followed by memory that cannot be read. */
struct batch {
	__u64 address; /* the batch's own */
	__u32 count;
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

/* Without a count it only says where the memory is, for the pointers in it. */
SEC("raw_tp")
int run_expression(void *ctx)
{
	struct skbs *all;
	__u64 address;
	__u32 zero = 0, i;

	all = bpf_map_lookup_elem(&skbs, &zero);
	if (!all)
		return 0;
	*(volatile __u64 *)&all->address = (__u64)all;
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

SEC("raw_tp")
int run_filters(void *ctx)
{
	struct batch *batch;
	__u64 address;
	__u32 zero = 0, i;

	batch = bpf_map_lookup_elem(&batches, &zero);
	if (!batch)
		return 0;
	/* The filter takes a number, and to the verifier what was stored and loaded again is one. */
	*(volatile __u64 *)&batch->address = (__u64)batch;
	address = *(volatile __u64 *)&batch->address;

	for (i = 0; i < MAX_PACKETS; i++) {
		struct packet *packet = &batch->packets[i];

		if (i >= batch->count)
			break;
		packet->l2 = filter_l2(address + packet->offset, packet->caplen, packet->len);
		packet->l3 = filter_l3(address + packet->offset, packet->caplen, packet->len);
	}
	return 0;
}
