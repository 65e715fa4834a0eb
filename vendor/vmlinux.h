/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types that pwru reads, and of them only the fields that it reads, for x86-64 and arm64.
 *
 * Offsets and sizes come from the running kernel's BTF: libbpf relocates every access (CO-RE), so the order of the
 * fields here means nothing. Only what is fixed as ABI (pt_regs, BPF contexts, map and program constants) is laid
 * out for real.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_MAP_TYPE_XSKMAP = 17,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_REUSEPORT_SOCKARRAY = 20,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_NOEXIST = 1,
};

enum {
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_RING_SIZE = 1,
};

#define RINGBUF_HEADER 8 /* BPF_RINGBUF_HDR_SZ */

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

/* The saved registers of the function that a probe hit: arch/{x86,arm64}/include/{uapi/,}asm/ptrace.h */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
};
#else
#error "pwru is built for __TARGET_ARCH_x86 or __TARGET_ARCH_arm64"
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct __kernel_sockaddr_storage {
	char __data[126];
};

struct task_struct {
	void *stack;
	__s32 tgid;
	char comm[16];
};

struct bpf_map {
	enum bpf_map_type map_type;
	u32 key_size;
	u32 value_size;
	u32 id;
	char name[16];
};

struct bpf_array {
	void *pptrs[0];
};

struct htab_elem {
	char key[0];
};

struct bpf_pidns_info {
	__u32 pid;
	__u32 tgid;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct dst_ops {
	unsigned short family;
};

struct dst_entry {
	struct net_device *dev;
	struct dst_ops *ops;
	unsigned long _metrics;
	unsigned long expires;
	unsigned short flags;
	short obsolete;
};

struct rtable {
	u32 rt_mtu_locked : 1, rt_pmtu : 31;
};

struct ipv6_devconf {
	__s32 mtu6;
};

struct inet6_dev {
	struct ipv6_devconf cnf;
};

struct net_device {
	struct inet6_dev *ip6_ptr;
	char name[16];
	unsigned int ifindex; /* int in the kernel; never negative */
	unsigned int mtu;
	possible_net_t nd_net;
	struct netdev_rx_queue *_rx;
	unsigned int num_rx_queues;
};

enum xdp_action {
	XDP_ABORTED = 0,
	XDP_DROP,
	XDP_PASS,
	XDP_TX,
	XDP_REDIRECT,
};

struct xdp_rxq_info {
	struct net_device *dev;
};

struct netdev_rx_queue {
	struct xdp_rxq_info xdp_rxq;
};

struct xdp_frame {
	void *data;
};

struct xdp_buff {
	void *data;
	void *data_end;
	void *data_hard_start;
	struct xdp_rxq_info *rxq;
};

struct in6_addr {
	__be32 s6_addr32[4];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	struct dst_entry *sk_dst_cache;
	u16 sk_type;
	u16 sk_protocol;
};

struct inet_sock {
	__be16 inet_sport;
};

struct qdisc_skb_cb {
	unsigned char data[20];
};

struct tc_skb_cb {
	__u32 drop_reason;
};

/* The values are looked up by name. */
enum skb_drop_reason {
	SKB_DROP_REASON_QDISC_DROP,
};

enum qdisc_drop_reason___new {
	__QDISC_DROP_REASON,
	QDISC_DROP_MAX,
};

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned int skb_iif; /* int in the kernel; never negative */
	unsigned int len;
	unsigned int data_len;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	__u16 inner_network_header;
	__u16 inner_mac_header;
	__be16 vlan_proto;
	__u16 vlan_tci;
	__u32 vlan_all; /* vlan_proto and vlan_tci; since commit 354259fa73e2 ("net: remove skb->vlan_present"), in v6.2 */
	__u32 mark;
	char cb[48];
	unsigned int tail; /* sk_buff_data_t: an offset from head on 64-bit machines */
	unsigned int end; /* so is this */
	unsigned char *head;
	unsigned char *data;
};

struct page {
	unsigned long flags;
};

struct bio_vec {
	struct page *bv_page;
};

struct skb_shared_info {
	__u8 nr_frags;
	struct bio_vec frags[1]; /* skb_frag_t, MAX_SKB_FRAGS of them */
	struct sk_buff *frag_list;
	unsigned short gso_size;
};

struct sk_buff___old {
	__u8 vlan_present : 1;
};

#pragma clang attribute pop

#endif /* __VMLINUX_H__ */
