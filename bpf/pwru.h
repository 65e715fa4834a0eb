/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF programs and user space share: the record of one event and the configuration.
 *
 * User space reads the layout of these structures from the BTF of the object, by name, so a field is added here and
 * in the code that uses it, and nowhere else. What stays the same along a packet's way is one run of bytes (struct
 * packet), and so is what identifies the task (struct process): user space formats each distinct run once.
 */
#ifndef __PWRU_H__
#define __PWRU_H__

#define TASK_COMM_LEN 16
#define IFNAMSIZ 16

struct process {
	__u32 pid; /* what user space calls a PID: the thread group */
	char comm[TASK_COMM_LEN];
};

struct packet {
	__u32 netns; /* inode number of the network namespace */
	__u32 mark;
	__u32 ifindex;
	__u32 mtu;
	__u32 len;
	__u16 protocol; /* EtherType, host byte order */
	__u16 sport;	/* host byte order; only with has_ports */
	__u16 dport;
	__u8 ip_version; /* 4, 6, or 0: no IP header was found and the fields below are empty */
	__u8 l4_protocol;
	__u8 has_ports; /* the packet begins a TCP or UDP header that could be read */
	char ifname[IFNAMSIZ];
	__u8 saddr[16]; /* IPv4: the first 4 bytes */
	__u8 daddr[16];
};

struct event {
	__u64 skb;
	__u64 addr;	/* where the probe hit: an instruction address, or the number of a tracepoint */
	__u64 location; /* of a tracepoint that has it: the address of the code that dropped the packet */
	__u32 cpu;
	__u32 reason; /* enum skb_drop_reason, if the function has that argument next to the skb */
	struct process process;
	struct packet packet;
};

struct config {
	__u32 netns; /* 0: any */
	__u32 ifindex; /* 0: any */
	__u32 mark;
	__u32 mark_mask; /* 0: any */
	__u32 has_filter; /* the filter_l2() and filter_l3() stubs hold a packet filter */
};

/* Per CPU; hits = events delivered + lost, whatever happens. */
struct counters {
	__u64 hits; /* probe hits that matched all filters */
	__u64 lost; /* of them: no room in the ring buffer */
};

#endif /* __PWRU_H__ */
