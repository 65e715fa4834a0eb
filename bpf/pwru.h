/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wire: what the BPF programs and user space share.
 *
 * User space reads the structs and the constants from the BTF of the object, by name, so none is
 * repeated there. A record is struct event and then the parts that the run asks for, in the order
 * of enum part. Neighbours that stay the same for many events (struct site with the location; the
 * parts from PART_META to PART_TUNNEL) are one run of bytes: user space decodes and formats each
 * distinct run once.
 */
#ifndef __PWRU_H__
#define __PWRU_H__

#include "vmlinux.h"

#define TASK_COMM_LEN 16
#define IFNAMSIZ 16

enum limits {
	STACK_FRAMES = 64,
	CALLER_FRAMES = 12, /* from a program up to the traced function's caller, at most */
	MAX_REASONS = 8,
	MAX_VALUES = 4,
	MAX_TAGS = 8, /* bytes of VLAN tags between the Ethernet header and the network header */
};

struct task {
	__u32 cpu;
	__u32 pid; /* in user space's sense: the thread group */
	char comm[TASK_COMM_LEN];
};

struct site {
	__u64 addr; /* of the function that was hit, or near it; or the number of a tracepoint */
	__u32 reason; /* enum skb_drop_reason, if the function has that argument next to the skb */
	__u32 padding;
};

/* Every record begins with this. */
struct event {
	__u64 skb;
	struct task task;
	struct site site;
};

/* The parts of a record, in their order. */
enum part {
	PART_LOCATION, /* __u64: the function's caller; at a tracepoint, where it dropped the skb */
	PART_META,
	PART_CB,
	PART_TUPLE,
	PART_TUNNEL, /* struct tuple of the packet that a tunnel's packet carries */
	PART_TIME, /* __u64 of bpf_ktime_get_ns() */
	PART_VALUES, /* __u64 each */
	PART_STACK,
	PART_SKB, /* a copy of struct sk_buff */
	PART_SHARED_INFO, /* a copy of struct skb_shared_info */
	PART_PAYLOAD,
	NR_PARTS,
};

struct meta {
	__u32 netns; /* inode number of the network namespace */
	__u32 mark;
	__u32 ifindex;
	__u32 mtu;
	__u32 len;
	__u16 protocol; /* EtherType, host byte order */
	__u16 padding;
	char ifname[IFNAMSIZ];
};

struct tuple {
	__u8 saddr[16]; /* IPv4: the first 4 bytes */
	__u8 daddr[16];
	__u16 sport; /* host byte order; only with has_ports */
	__u16 dport;
	__u8 ip_version; /* 4, 6, or 0: no IP header was found, all else is 0 */
	__u8 l4_protocol;
	__u8 has_ports; /* the packet has a TCP or UDP header that could be read */
	__u8 tcp_flags; /* of a TCP header, if struct config asks for them */
} __attribute__((aligned(8))); /* as each part is in a record: filled in words, not in halves */

/* What a BPF program of tc sees as __sk_buff->cb. */
struct cb {
	__u32 words[5];
	__u32 padding;
};

struct stack {
	__u64 caller; /* of the function that was hit; 0: unknown */
	__s64 size; /* of the used frames, in bytes; negative: no stack */
	__u64 frames[STACK_FRAMES]; /* innermost first, including the tracer's */
};

struct payload {
	__u32 length; /* of the packet, from where `bytes` begin */
	__u32 size; /* how much of it is in `bytes` */
	__u32 has_mac; /* `bytes` begin with a link-layer header */
	__u32 padding;
	__u8 bytes[]; /* room for config.size[PART_PAYLOAD] */
};

/* Which filters a run has. */
enum filter {
	FILTER_META = 1, /* the members of struct config from netns to mark_mask */
	FILTER_SKB_EXPR = 2, /* the filter_skb() stub holds a condition */
	FILTER_PACKET = 4, /* the filter_packet() stub holds a packet filter */
	FILTER_TASK = 8, /* pid and comm */
	FILTER_REASON = 16, /* reasons; tracepoints only */
	FILTER_TAGGED = 32, /* the filter_tagged() stub holds a packet filter */
	FILTER_INNER_L2 = 64, /* so does the filter_inner_l2() stub */
	FILTER_INNER_L3 = 128,
};

/* How a traced function takes its skb: an entry of struct arg_table. */
enum arg_code {
	SKB_ARG = 7, /* mask: which argument, from 0 */
	SKB_ARG_POINTER = 8, /* it is a struct sk_buff ** */
	REASON_ARG = 16, /* the argument after it is an enum skb_drop_reason */
	ARG_OVERFLOW = 255, /* see the second table */
};

/*
 * Constants in the programs that are templates, see pwru.bpf.c: user space replaces them in each
 * copy. The lower bits are a valid code, as the template is loaded, too.
 */
enum template {
	NO_ARG = 15,
	FENTRY_POINTER = 0x100,
	FENTRY_TEMPLATE = 0x707760f0,
	FENTRY_ADDRESS = 0x70776100,
	TRACEPOINT_TEMPLATE = 0x70775ff0,
};

struct config {
	__u32 netns; /* 0: any */
	__u32 ifindex; /* 0: any */
	__u32 mark;
	__u32 mark_mask; /* 0: any */
	__u32 pid; /* 0: any */
	char comm[TASK_COMM_LEN]; /* empty: any; zeros follow its end */
	__u32 reasons[MAX_REASONS]; /* enum skb_drop_reason, or a subsystem's; fewer are repeated */
	__u32 filters; /* enum filter, one bit each: one load for all that a run does not have */
	__u32 tries; /* at most, to reserve room for an event: see reserve_event() */
	__u32 ip_is_entry; /* a kprobe-multi's IP, rounded down to 16, is the function's address */
	__u32 tcp_flags; /* whether tuples have them */
	__u32 trace_run_size; /* in bytes */
	__u64 trace_run; /* of bpf_trace_run1..12(), which call the programs; 0: not needed */
	__u32 record_size;
	__u16 at[NR_PARTS]; /* where in the record; 0: the run does not have this part */
	__u16 size[NR_PARTS]; /* in bytes; that of PART_PAYLOAD without its header */
	/* Without room: these bring enums into the BTF that are no other member's type. */
	enum part parts[0];
	enum limits limits[0];
	enum filter filter[0];
	enum arg_code arg_codes[0];
	enum template templates[0];
};

/* Per CPU; hits = events delivered + full + busy, whatever happens. */
struct counters {
	__u64 hits; /* probe hits that matched all filters */
	__u64 full; /* of them lost: no room in the ring buffer */
	__u64 busy; /* of them lost: other CPUs were at the ring buffer all the time */
};

#endif /* __PWRU_H__ */
