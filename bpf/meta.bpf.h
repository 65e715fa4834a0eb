/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who handles the packet and where: the task, the network namespace, the device.
 *
 * Here and in the other headers, what fills a part of the record is a function that is not inlined:
 * only so does the BTF of the object have the struct of the part, whose layout user space reads
 * there.
 */
#ifndef __META_BPF_H__
#define __META_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "origin.bpf.h"
#include "read.bpf.h"

static __always_inline void capture_task(struct task *task)
{
	task->cpu = bpf_get_smp_processor_id();
	if (CAN_CAST) {
		struct task_struct *current = (void *)bpf_get_current_task();

		task->pid = get(current, tgid);
		copy_name(task->comm,
			  (__u64)current + bpf_core_field_offset(struct task_struct, comm));
	} else {
		task->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(task->comm, sizeof(task->comm));
	}
}

static __always_inline void capture_name(struct net_device *dev, struct meta *meta)
{
	if (dev)
		copy_name(meta->ifname, (__u64)dev + bpf_core_field_offset(struct net_device, name));
	else
		__builtin_memset(meta->ifname, 0, sizeof(meta->ifname));
}

/* The same for every carrier. */
static __always_inline void fill_meta(const struct fields *fields, struct origin *origin,
				      struct meta *meta)
{
	meta->netns = origin->netns;
	meta->ifindex = origin->ifindex;
	meta->mtu = find_mtu(origin);
	meta->mark = fields->mark;
	meta->len = fields->len;
	meta->protocol = bpf_ntohs(fields->protocol);
	meta->padding = 0;
	capture_name(origin->dev, meta);
}

/* `arg` is that of find_sock(). */
static __noinline void capture_meta(struct sk_buff *skb, struct sock *arg, struct meta *meta)
{
	struct fields fields;
	struct origin origin;

	load_fields(skb, &fields);
	find_origin(skb, fields.dev, arg, &origin);
	fill_meta(&fields, &origin, meta);
	RETURN_VOID;
}

#endif /* __META_BPF_H__ */
