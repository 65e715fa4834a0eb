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
#include "read.bpf.h"

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

/*
 * Whether it is the code of a function with an enum role. `following`, here and elsewhere, is known
 * when the programs are compiled: there are two of each.
 */
static __always_inline bool has_role(__u32 code, bool following)
{
	return following && code >= ROLE_CODE;
}

static __always_inline __u32 role_of(__u32 code)
{
	return code < ROLE_CODE ? ROLE_NONE : (code - ROLE_CODE) % ROLE_SILENT;
}

/* Whether nobody asked for events of the function. */
static __always_inline bool is_silent(__u32 code)
{
	return code - ROLE_CODE - ROLE_SILENT < ROLE_SILENT;
}

/* Which argument the skb is, from 0. `args` is an enum arg_code. */
static __always_inline __u32 skb_index(__u32 args, bool following)
{
	return has_role(args, following) ? role_of(args) >= ROLE_SECOND : args / SKB_ARG_UNIT;
}

static __always_inline bool has_reason(__u32 args, bool following)
{
	if (has_role(args, following))
		return role_of(args) == ROLE_FREEING_REASON;
	return args & REASON_ARG;
}

/* Which argument is a struct sock *, from 1; 0: none. */
static __always_inline __u32 sock_index(__u32 args, bool following)
{
	return has_role(args, following) ? role_of(args) == ROLE_TRANSMIT : args & SOCK_ARG;
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

/* The verifier would know its type, and refuse a register that holds it or another socket. */
static __always_inline struct sock *fentry_sock(__u64 *ctx, __u32 index)
{
	return (void *)scalar(fentry_arg(ctx, index));
}

#undef ARG
#define ARG(n)                                                                                     \
	if (n < count && index == n)                                                               \
		value = ctx->args[n];                                                              \
	barrier_var(value)

/* A program that reads more than the `count` arguments of a tracepoint cannot be attached to it. */
static __always_inline __u64 tracepoint_arg(struct bpf_raw_tracepoint_args *ctx, __u64 count,
					    __u32 index)
{
	__u64 value = 0;

	ARG(0);
	ARG(1);
	ARG(2);
	ARG(3);
	ARG(4);
	ARG(5);
	ARG(6);
	ARG(7);
	return value;
}

#undef ARG

/* The socket among a function's arguments: number `index`, from 1. */
static __always_inline struct sock *sock_arg(struct pt_regs *ctx, __u32 index)
{
	return index ? (void *)function_arg(ctx, index - 1) : 0;
}

static __always_inline struct sock *traced_sock_arg(__u64 *ctx, __u32 index)
{
	return index ? (void *)traced_arg(ctx, index - 1) : 0;
}

static __noinline __u64 read_pointer(__u64 addr)
{
	return load_u64(addr);
}

/* `args` is an enum arg_code, `arg` the argument that it names. */
static __always_inline struct sk_buff *skb_pointer(__u32 args, __u64 arg)
{
	return (void *)(args & SKB_ARG_POINTER ? read_pointer(arg) : arg);
}

#endif /* __ARGUMENTS_BPF_H__ */
