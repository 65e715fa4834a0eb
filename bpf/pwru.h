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
	MAX_TRACEPOINT_ARGS = 8, /* that are read */
	MAX_TAGS = 8, /* bytes of VLAN tags between the Ethernet header and the network header */
	MAP_KEY_BYTES = 64, /* of the key of a BPF map, at most */
	MAP_VALUE_BYTES = 128, /* of the value */
	STACK_DEPTH = 4, /* frames of different packets on one kernel stack, at most; a power of two */
	STACK_BITS = 12, /* of the number of stacks that have such frames, at most */
};

struct task {
	__u32 cpu;
	__u32 pid; /* in user space's sense: the thread group */
	char comm[TASK_COMM_LEN];
};

struct site {
	/*
	 * Of the function that was hit, or near it; the number of a tracepoint; or of a BPF program,
	 * see on_program().
	 */
	__u64 addr;
	__u32 reason; /* the argument next to the skb that is an enum skb_drop_reason, or any enum
		       * of reasons of a tracepoint, or what a BPF program returned
		       */
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
	PART_FOLLOW,
	PART_TIME, /* __u64 of bpf_ktime_get_ns() */
	/*
	 * __u64 each, of the skb. If the run has programs of XDP, too, MAX_VALUES of them, and then
	 * whether they are those of the frame.
	 */
	PART_VALUES,
	PART_STACK,
	PART_SKB, /* a copy of struct sk_buff */
	PART_SHARED_INFO, /* a copy of struct skb_shared_info */
	PART_PAYLOAD,
	PART_BPFMAP,
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
	/*
	 * 4, 6, or 0: no IP header was found, all else is 0. Negative: the packet has no headers
	 * yet, this is what its socket knows.
	 */
	__s8 ip_version;
	__u8 l4_protocol;
	__u8 has_ports; /* the packet has a TCP or UDP header that could be read */
	__u8 tcp_flags; /* of a TCP header, if struct config asks for them */
} __attribute__((aligned(8))); /* as each part is in a record: filled in words, not in halves */

/* Why an event is traced. */
enum tracked_by {
	TRACKED_BY_FILTER, /* the first one of its packet */
	TRACKED_BY_SKB, /* the skb is followed since then */
	TRACKED_BY_RELATION, /* the skb came from one that is followed */
	TRACKED_BY_XDP, /* so did the XDP frame from an skb, or the skb from it */
	TRACKED_BY_STACKID, /* the function runs below one that has the skb */
};

/* How an skb came from another one, or went into it. */
enum relation {
	RELATION_NONE,
	RELATION_CLONE, /* it has the same data */
	RELATION_COPY,
	RELATION_SEGMENT, /* number `segment` of the parent, from 1 */
	RELATION_FRAGMENT, /* of IP, the same */
	RELATION_SPLIT, /* the rest of the parent's data, by TCP */
	RELATION_MERGED, /* its data is the parent's now */
	RELATION_XDP, /* the frame was an skb, or the other way round */
};

/* Which packet an event belongs to, if the run follows packets. */
struct follow {
	__u64 packet; /* unique in a trace; 0: not followed, there is no room */
	__u64 instance; /* which skb of it, unique in a trace; that of the first is `packet`. 0: none,
			 * the function has another skb, and runs below one of the packet
			 */
	__u64 parent_packet; /* with a relation */
	__u64 parent; /* instance */
	__u16 transmission; /* of TCP, from 1; 0: not seen to be transmitted */
	__u16 segment; /* also of an IP fragment; 0: it is none */
	__u8 tracked_by;
	__u8 relation; /* enum relation; not RELATION_NONE: this event says it */
	__u8 ended; /* this is where the skb ends */
	__u8 padding;
};

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
	__u8 has_mac; /* `bytes` begin with a link-layer header */
	__u8 padding[3];
	__u16 vlan_proto; /* host byte order: of a VLAN tag that the bytes do not have; 0: none */
	__u16 vlan_tci;
	__u8 bytes[]; /* room for config.size[PART_PAYLOAD] */
};

enum map_value {
	MAP_VALUE_NONE, /* the operation has none, or none of bytes */
	MAP_VALUE_KNOWN,
	MAP_VALUE_MISSING, /* there was none */
};

/* The operation of a map that a BPF program calls for. */
struct bpfmap {
	__u32 id; /* 0: it is none */
	__u32 key_size;
	__u32 value_size;
	__u8 has_key;
	__u8 value_is; /* enum map_value */
	__u16 padding;
	char name[16];
	__u8 key[MAP_KEY_BYTES]; /* key_size of them at most, likewise: */
	__u8 value[MAP_VALUE_BYTES];
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
	SOCK_ARG = 7, /* mask: which argument is a struct sock *, from 1; 0: none */
	REASON_ARG = 8, /* the argument after the skb is an enum skb_drop_reason */
	SKB_ARG_POINTER = 16, /* the skb is a struct sk_buff ** */
	SKB_ARG_UNIT = 32, /* times which argument it is, from 0 */
	ROLE_CODE = 160, /* from here on: plus an enum role, which says where the skb is */
	ROLE_SILENT = 16, /* added to that: nobody asked for events of this function */
	STACK_CODE = 192, /* no skb: it works for the packet of its stack, see stack.bpf.h */
	ARG_OVERFLOW = 255, /* see the second table */
};

/* What a function means for packets that are followed, see follow.bpf.h. */
enum role {
	ROLE_NONE,
	/* (skb, …) */
	ROLE_END, /* the skb is released */
	ROLE_LAST, /* that is complete */
	ROLE_AFTER_END, /* part of that */
	ROLE_STOLEN, /* it is, after its data was merged into another one's */
	ROLE_MERGED, /* it will be, after that */
	ROLE_FREEING, /* it will be, for whatever cause */
	ROLE_FREEING_REASON, /* a drop reason follows */
	ROLE_HEAD, /* skb->head is replaced */
	ROLE_SPLIT, /* (skb, rest, …): the rest goes into another skb */
	ROLE_MERGE, /* (into, skb, …): may take over the data of skb */
	/* (…, skb, …) */
	ROLE_COPY, /* (new, skb): the new one is made from skb */
	ROLE_FRAGMENT, /* (new, skb): is one of IP's fragments of it */
	ROLE_TRANSMIT, /* (sk, skb, …): TCP transmits it */
	ROLE_END_SECOND, /* (…, skb): it is used for the next packet */
	ROLE_REASSEMBLE, /* (…, skb, …): it becomes a whole, others its fragments */
	ROLE_SECOND = ROLE_COPY, /* from here on the skb is the second argument */
	ROLE_PAIR = ROLE_SPLIT, /* from here on the second argument counts */
};

/*
 * Constants in the programs that are templates, see pwru.bpf.c: user space replaces them in each
 * copy. The lower bits are a valid code, as the template is loaded, too.
 */
enum template {
	NO_ARG = 15,
	FENTRY_POINTER = 0x100,
	FENTRY_TEMPLATE = 0x7077f0f0,
	FENTRY_ADDRESS = 0x70776100,
	TRACEPOINT_TEMPLATE = 0x7077fff0,
	PROGRAM_ENTRY = 0x0f, /* mask; its bits are NO_ARG: it has no verdict yet */
	PROGRAM_NETFILTER = 0x10,
	PROGRAM_TEMPLATE = 0x7077ff0f,
	PROGRAM_NUMBER = 0x70776200,
	PROGRAM_CODE = 0x70776300,
	HELPER_MAP = 0x1000,
	HELPER_KEY_ITSELF = 0x2000,
	HELPER_LOOKUP = 0x4000,
	HELPER_ELEMENT = 0x8000,
	HELPER_TAKES_OUT = 0x10000,
	HELPER_TEMPLATE = 0x707701ff,
	HELPER_ADDRESS = 0x70776400,
};

/* An skb that is followed. */
struct followed {
	struct follow follow; /* what the next event says */
	__u64 skb_parent; /* address of what it was made from */
	__u64 head; /* skb->head, or, of one that has no event yet, that of its parent */
	__u32 state; /* enum followed_state */
	__u32 segments; /* that were made from it */
};

struct config {
	__u32 netns; /* 0: any */
	__u32 ifindex; /* 0: any */
	__u32 mark;
	__u32 mark_mask; /* 0: any */
	__u32 pid; /* 0: any */
	__u32 pid_ns_dev; /* of the namespace in which that is its number */
	__u32 pid_ns_inode; /* 0: the initial one */
	char comm[TASK_COMM_LEN]; /* empty: any; zeros follow its end */
	__u32 reasons[MAX_REASONS]; /* enum skb_drop_reason, or a subsystem's; fewer are repeated */
	__u32 reason_masks[MAX_REASONS]; /* which bits of them count */
	__u32 filters; /* enum filter, one bit each: one load for all that a run does not have */
	__u32 tries; /* to get an event into the ring buffer, at most: see begin_event() */
	__u32 ip_is_entry; /* a kprobe-multi's IP, rounded down to 16, is the function's address */
	__u32 tcp_flags; /* whether tuples have them */
	__u32 follow_xdp; /* also by programs of XDP */
	__u32 xdp_expr; /* the filter_xdp_expr() stub holds a condition */
	__u32 sees_all; /* no function is left out that could be traced */
	__u32 by_stack; /* packets are followed also by the kernel stack, see stack.bpf.h */
	__u32 no_helper; /* bpf_probe_read_kernel() is denied: see read_mem() */
	__u32 has_cookie; /* what is said of a tracepoint is its link's cookie */
	__u32 trace_run_size; /* in bytes */
	__u32 page_size;
	__u64 first_page; /* a struct page, and the address of its page; 0: not known or not needed */
	__u64 first_address;
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
	enum tracked_by tracked_by[0];
	enum relation relations[0];
	enum role roles[0];
	struct follow follow_part[0];
	enum map_value map_values[0];
	struct followed followed[0];
};

/* Room for the largest record. */
struct scratch {
	__u64 words[512];
};

/* Per CPU; hits = events delivered + full + busy, whatever happens. */
struct counters {
	__u64 hits; /* probe hits that matched all filters */
	__u64 full; /* of them lost: no room in the ring buffer */
	__u64 busy; /* of them lost: other CPUs were at the ring buffer all the time */
	__u64 ends_unseen; /* skbs that were followed, and turned up with another packet */
	__u64 no_room; /* skbs made from followed ones, which could not be followed, too */
	__u64 no_stack; /* frames of followed packets for which there was no room */
};

#endif /* __PWRU_H__ */
