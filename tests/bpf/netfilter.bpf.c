// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that is a hook of netfilter, for tests.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct bpf_nf_ctx {
	const void *state;
	struct sk_buff *skb;
};

char LICENSE[] SEC("license") = "GPL";

SEC("netfilter")
int drops_what_comes_in(struct bpf_nf_ctx *ctx)
{
	return 0; /* NF_DROP */
}
