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
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
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
	__s32 tgid;
	char comm[16];
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

struct net_device {
	char name[16];
	unsigned int ifindex; /* int in the kernel; never negative */
	unsigned int mtu;
	possible_net_t nd_net;
};

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

struct qdisc_skb_cb {
	unsigned char data[20];
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	__be16 protocol;
	__u16 network_header;
	__u16 mac_header;
	__u16 inner_network_header;
	__u32 vlan_all; /* vlan_proto and vlan_tci; since commit 354259fa73e2 ("net: remove skb->vlan_present"), in v6.2 */
	__u32 mark;
	char cb[48];
	unsigned int tail; /* sk_buff_data_t: an offset from head on 64-bit machines */
	unsigned int end; /* so is this */
	unsigned char *head;
	unsigned char *data;
};

struct sk_buff___old {
	__u8 vlan_present : 1;
};

#pragma clang attribute pop

#endif /* __VMLINUX_H__ */
