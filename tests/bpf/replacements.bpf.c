// SPDX-License-Identifier: GPL-2.0-only
/*
 * What takes the place of a function of another program (freplace), for tests: tests/kernel/bpf_programs.py says of
 * which.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct __sk_buff {
	__u32 len;
};

char LICENSE[] SEC("license") = "GPL";

SEC("freplace")
int replaces_a_function(struct __sk_buff *skb)
{
	return 2; /* TC_ACT_SHOT */
}
