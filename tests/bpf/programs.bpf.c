// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that see packets, for tests: they pass them on, drop them, call each other.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_PROG_ARRAY 3
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2

/* The kernel knows them by their names. */
struct __sk_buff {
	__u32 len;
};

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

/* The name does not fit into the 15 bytes that the kernel keeps of it. */
SEC("tc")
int passes_every_packet_on(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("tc")
int drops_every_packet(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

SEC("tc")
int calls_another(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &calls, 0);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int calls_a_helper(struct __sk_buff *skb)
{
	__u8 byte;

	bpf_skb_load_bytes(skb, 0, &byte, 1);
	return TC_ACT_UNSPEC;
}

/* A function of its own, which may be replaced. */
__noinline int passes_on(struct __sk_buff *skb)
{
	int verdict = TC_ACT_UNSPEC;

	asm volatile("" : "+r"(verdict));
	return verdict;
}

SEC("tc")
int calls_a_function(struct __sk_buff *skb)
{
	return passes_on(skb);
}

/* The verifier does not trust what BTF says of this one's argument. */
SEC("tc")
int takes_anything(void *skb)
{
	return TC_ACT_SHOT;
}

SEC("cgroup_skb/egress")
int drops_what_is_sent(struct __sk_buff *skb)
{
	return 0;
}
