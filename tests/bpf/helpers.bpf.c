// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that call helpers and use maps, for tests.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_LPM_TRIE 11
#define BPF_F_NO_PREALLOC 1
#define BPF_ANY 0
#define TC_ACT_UNSPEC (-1)

/* The kernel knows it by its name. */
struct __sk_buff {
	__u32 len;
};

struct xdp_md {
	__u32 data;
	__u32 data_end;
};

struct prefix {
	__u32 length;
	__u8 address[4];
};

struct large {
	__u8 bytes[200];
};

char LICENSE[] SEC("license") = "GPL";

#define MAP(name, kind, key_type, value_type)                                                      \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_##kind);                                                 \
		__uint(max_entries, 16);                                                           \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

MAP(a_hash, HASH, __u32, __u64);
MAP(an_lru, LRU_HASH, __u64, __u32);
MAP(on_each_cpu, PERCPU_HASH, __u32, __u64);
MAP(an_array, ARRAY, __u32, __u64);
MAP(of_xdp, HASH, __u32, __u64);
MAP(too_large, HASH, struct large, struct large);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16);
	__type(key, struct prefix);
	__type(value, __u32);
} a_trie SEC(".maps");

static struct large large;

static __always_inline void use_hash(void)
{
	__u32 key = 0x04030201, none = 0x0badcafe;
	__u64 value = 0x1122334455667788;

	bpf_map_update_elem(&a_hash, &key, &value, BPF_ANY);
	bpf_map_lookup_elem(&a_hash, &key);
	bpf_map_lookup_elem(&a_hash, &none);
	bpf_map_delete_elem(&a_hash, &key);
}

/* The verifier does not know which map it is: the helper asks the map. */
static __always_inline void use_either(bool first)
{
	void *map = first ? (void *)&a_hash : (void *)&of_xdp;
	__u64 value = 0x99;
	__u32 key = 0x09080706;

	asm volatile("" : "+r"(map));
	bpf_map_update_elem(map, &key, &value, BPF_ANY);
}

static __always_inline void use_others(void)
{
	struct prefix prefix = { 24, { 10, 9, 0, 0 } }, host = { 32, { 10, 9, 0, 7 } };
	__u64 long_key = 0x2a, cpu = bpf_get_smp_processor_id() + 0x10;
	__u32 key = 5, value = 0x77;

	bpf_map_update_elem(&an_lru, &long_key, &value, BPF_ANY);
	bpf_map_lookup_elem(&an_lru, &long_key);
	bpf_map_update_elem(&on_each_cpu, &key, &cpu, BPF_ANY);
	bpf_map_lookup_elem(&on_each_cpu, &key);
	bpf_map_update_elem(&an_array, &key, &cpu, BPF_ANY);
	bpf_map_lookup_elem(&an_array, &key);
	bpf_map_update_elem(&a_trie, &prefix, &value, BPF_ANY);
	bpf_map_lookup_elem(&a_trie, &host);
}

SEC("tc")
int calls_helpers(struct __sk_buff *skb)
{
	__u8 tos = 0;

	bpf_skb_load_bytes(skb, 15, &tos, 1);
	use_hash();
	use_either(skb->len > 100);
	use_others();
	bpf_map_update_elem(&too_large, &large, &large, BPF_ANY);
	bpf_skb_store_bytes(skb, 15, &tos, 1, 0);
	bpf_redirect(1, 0);
	bpf_ktime_get_ns();
	return TC_ACT_UNSPEC;
}

SEC("xdp")
int calls_in_xdp(struct xdp_md *xdp)
{
	__u64 value = xdp->data_end - xdp->data;
	__u32 key = 0xf00d;

	bpf_map_update_elem(&of_xdp, &key, &value, BPF_ANY);
	bpf_map_lookup_elem(&of_xdp, &key);
	return XDP_PASS;
}

/* It calls what the other one calls. */
SEC("tc")
int calls_them_too(struct __sk_buff *skb)
{
	use_hash();
	return TC_ACT_UNSPEC;
}
