/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arguments of traced functions and tracepoints, by an index that is known only at the hit.
 *
 * Which argument is the skb differs from function to function. One program per position would cost
 * one RCU grace period each at detach; cookies would cost a binary search per hit. So one program
 * serves all functions and looks the position up in a table by a hash of the address: one load, no
 * helper call. The few functions that the first hash cannot tell apart have a second one. User
 * space makes the tables (pwru/live/backends/arg_table.py).
 */
#ifndef __ARGUMENTS_BPF_H__
#define __ARGUMENTS_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "pwru.h"

#define SLOT_BITS 16
#define OVERFLOW_BITS 14

struct arg_table {
	__u32 multiplier;
	__u32 overflow_multiplier;
	__u8 slot[1 << SLOT_BITS]; /* by the upper bits of a 32-bit product */
	__u8 overflow[1 << OVERFLOW_BITS];
};

struct arg_table arg_table SEC(".data.arg_table") = {};

static __noinline __u32 find_in_overflow(__u64 addr)
{
	__u32 hash = (__u32)addr * arg_table.overflow_multiplier;

	return arg_table.overflow[hash >> (32 - OVERFLOW_BITS)];
}

/* Returns enum arg_code. */
static __always_inline __u32 find_skb_arg(__u64 addr)
{
	__u32 hash = (__u32)addr * arg_table.multiplier;
	__u32 code = arg_table.slot[hash >> (32 - SLOT_BITS)];

	return code == ARG_OVERFLOW ? find_in_overflow(addr) : code;
}

/* Loads from a context take constant offsets only; without the barriers clang would compute one. */
#define ARG(n, load)                                                                               \
	if (index == n)                                                                            \
		value = load;                                                                      \
	barrier_var(value)

static __always_inline __u64 function_arg(struct pt_regs *ctx, __u32 index)
{
	__u64 value = 0;

	ARG(0, PT_REGS_PARM1(ctx));
	ARG(1, PT_REGS_PARM2(ctx));
	ARG(2, PT_REGS_PARM3(ctx));
	ARG(3, PT_REGS_PARM4(ctx));
	ARG(4, PT_REGS_PARM5(ctx));
	return value;
}

/* fentry-multi: the verifier knows no argument's type, as the functions have nothing in common. */
static __always_inline __u64 traced_arg(__u64 *ctx, __u32 index)
{
	__u64 value = 0;

	bpf_get_func_arg(ctx, index, &value);
	return value;
}

/* fentry, one program per function: without bpf_get_func_arg(), which exists since v5.17. */
static __always_inline __u64 fentry_arg(__u64 *ctx, __u32 index)
{
	__u64 value = 0;

	ARG(0, ctx[0]);
	ARG(1, ctx[1]);
	ARG(2, ctx[2]);
	ARG(3, ctx[3]);
	ARG(4, ctx[4]);
	ARG(5, ctx[5]);
	return value;
}

static __always_inline __u64 tracepoint_arg(struct bpf_raw_tracepoint_args *ctx, __u32 index)
{
	__u64 value = 0;

	ARG(0, ctx->args[0]);
	ARG(1, ctx->args[1]);
	ARG(2, ctx->args[2]);
	ARG(3, ctx->args[3]);
	ARG(4, ctx->args[4]);
	ARG(5, ctx->args[5]);
	ARG(6, ctx->args[6]);
	ARG(7, ctx->args[7]);
	return value;
}

#undef ARG

static __noinline __u64 read_pointer(__u64 addr)
{
	__u64 pointer = 0;

	bpf_probe_read_kernel(&pointer, sizeof(pointer), (void *)addr);
	return pointer;
}

/* `args` is an enum arg_code, `arg` the argument that it names. */
static __always_inline struct sk_buff *skb_pointer(__u32 args, __u64 arg)
{
	return (void *)(args & SKB_ARG_POINTER ? read_pointer(arg) : arg);
}

#endif /* __ARGUMENTS_BPF_H__ */
