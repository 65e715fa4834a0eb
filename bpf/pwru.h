/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs and user space share: the record of one event and the configuration.
 *
 * User space reads the layout of these structures from the BTF of the object, by name, so a field is added here and
 * in the code that uses it, and nowhere else. What stays the same for many events is one run of bytes (struct task, struct
 * where with the location behind it, struct meta with struct tuple): user space formats each distinct run once.
 */
#ifndef __PWRU_H__
#define __PWRU_H__

#define TASK_COMM_LEN 16
#define IFNAMSIZ 16

struct task {
	__u32 cpu;
	__u32 pid; /* what user space calls a PID: the thread group */
	char comm[TASK_COMM_LEN];
};

struct where {
	__u64 addr; /* of the function that was hit, or near it; or the number of a tracepoint */
	__u32 reason; /* enum skb_drop_reason, if the function has that argument next to the skb */
	__u32 padding;
};

/* What every record begins with. */
struct event {
	__u64 skb;
	struct task task;
	struct where where;
};

/* Parts of a record that are there when the flags ask for them. */

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
	__u8 ip_version; /* 4, 6, or 0: no IP header was found and all else is 0 */
	__u8 l4_protocol;
	__u8 has_ports; /* the packet begins a TCP or UDP header that could be read */
	__u8 tcp_flags; /* of a TCP header, if struct config asks for them */
};

/* What a BPF program of tc sees as __sk_buff->cb. */
struct cb {
	__u32 words[5];
	__u32 padding;
};

#define STACK_FRAMES 64

struct stack {
	__u64 caller; /* of the function that was hit; 0: unknown */
	__s64 size; /* of what is in frames, in bytes; negative: there is no stack */
	__u64 frames[STACK_FRAMES]; /* from the innermost on, with those of the tracer */
};

struct payload {
	__u32 length; /* of the packet, from where `bytes` begin */
	__u32 size; /* of what is in bytes */
	__u32 has_mac; /* they begin with a link-layer header */
	__u32 padding;
	__u8 bytes[]; /* room for config.payload_size */
};

#define FILTER_META 1 /* the members from netns to mark_mask */
#define FILTER_SKB_EXPR 2 /* the filter_skb() stub holds a condition */
#define FILTER_PACKET 4 /* the filter_packet() stub holds a packet filter */
#define FILTER_TASK 8 /* pid and comm */
#define FILTER_REASON 16 /* reasons; of tracepoints */
#define FILTER_TAGGED 32 /* the filter_tagged() stub holds a packet filter */
#define FILTER_INNER_L2 64 /* and so the filter_inner_l2() stub */
#define FILTER_INNER_L3 128

#define MAX_REASONS 8

struct config {
	__u32 netns; /* 0: any */
	__u32 ifindex; /* 0: any */
	__u32 mark;
	__u32 mark_mask; /* 0: any */
	__u32 pid; /* 0: any */
	char comm[TASK_COMM_LEN]; /* empty: any; the bytes behind its end are 0 */
	__u32 reasons[MAX_REASONS]; /* enum skb_drop_reason, or a subsystem's; fewer are repeated */
	__u32 filters; /* which there are, FILTER_ and so on: one load instead of one for each that there is not */
	__u32 tries; /* at most, to get room for an event: see reserve_event() */
	__u32 ip_is_entry; /* a kprobe-multi's instruction pointer, rounded down to 16, is the function's address */
	__u32 tcp_flags; /* whether tuples have them */
	__u32 trace_run_size; /* in bytes */
	__u64 trace_run; /* where bpf_trace_run1() and so on are: what tracepoints call programs by; 0: not needed */
	/* The layout of a record: its size, and where its parts are in it; 0: it has none. */
	__u32 record_size;
	__u32 meta_at;
	__u32 cb_at;
	__u32 tuple_at;
	__u32 tunnel_at; /* struct tuple, of what an encapsulated packet carries */
	__u32 location_at; /* __u64: the caller of the function; of a tracepoint the code that dropped the packet */
	__u32 time_at; /* __u64, of bpf_ktime_get_ns() */
	__u32 values_at; /* __u64, as many as `values` says */
	__u32 stack_at; /* struct stack */
	__u32 skb_at; /* a copy of the skb */
	__u32 shared_info_at; /* and of its struct skb_shared_info */
	__u32 payload_at; /* struct payload */
	/* How much there is of them: 0 to 4 values, and bytes. */
	__u32 values;
	__u32 skb_size;
	__u32 shared_info_size;
	__u32 payload_size;
};

/* Per CPU; hits = events delivered + full + busy, whatever happens. */
struct counters {
	__u64 hits; /* probe hits that matched all filters */
	__u64 full; /* of them lost: no room in the ring buffer */
	__u64 busy; /* of them lost: other CPUs were at the ring buffer all the time */
};

#endif /* __PWRU_H__ */
