/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The account that the programs keep for user space.
 */
#ifndef __ACCOUNT_BPF_H__
#define __ACCOUNT_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "pwru.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* Counting is atomic: an interrupt can hit a probe, too. */
static __always_inline struct counters *find_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

#endif /* __ACCOUNT_BPF_H__ */
