// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs of tc, of routes and of sockets, for tests: they send packets elsewhere, or decide about them where they go.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_SOCKMAP 15
#define TC_ACT_UNSPEC (-1)
#define BPF_OK 0
#define BPF_DROP 2
#define SK_PASS 1

struct __sk_buff {
	__u32 len;
};

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

SEC("tc")
int sends_elsewhere(struct __sk_buff *skb)
{
	__u32 zero = 0, *ifindex = bpf_map_lookup_elem(&target, &zero);

	return ifindex ? bpf_redirect(*ifindex, 0) : TC_ACT_UNSPEC;
}

SEC("lwt_out")
int lets_go_out(struct __sk_buff *skb)
{
	return BPF_OK;
}

SEC("lwt_xmit")
int drops_on_the_route(struct __sk_buff *skb)
{
	return BPF_DROP;
}

SEC("sk_skb/stream_verdict")
int passes_to_the_socket(struct __sk_buff *skb)
{
	return SK_PASS;
}
