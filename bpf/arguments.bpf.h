/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arguments of traced functions and tracepoints, by an index that is known only when the probe hits.
 *
 * Which argument is the skb differs from function to function. A program and a link for each position would cost a
 * grace period each when they go; a cookie for each function, a search on every hit. So one program serves all
 * functions, and looks the position up in a table by a hash of the address: one load, no search, no helper call. The few
 * functions that the first hash cannot tell apart have a second one. User space makes it (pwru/live/backends/arg_table.py).
 */
#ifndef __ARGUMENTS_BPF_H__
#define __ARGUMENTS_BPF_H__

#define SKB_ARG 7 /* which argument, from 0 */
#define SKB_ARG_POINTER 8 /* it is a struct sk_buff ** */
#define REASON_ARG 16 /* the argument after it is an enum skb_drop_reason */

#define AGAIN 255 /* it is in the second table */

struct positions {
	__u32 multiplier;
	__u32 again_multiplier;
	__u8 slot[1 << 16]; /* by the upper bits of a product of 32 bits */
	__u8 again[1 << 14];
};

struct positions positions SEC(".data.positions") = {};

static __noinline __u32 find_again(__u64 addr)
{
	return positions.again[(__u32)addr * positions.again_multiplier >> 18];
}

static __always_inline __u32 find_skb_arg(__u64 addr)
{
	__u32 where = positions.slot[(__u32)addr * positions.multiplier >> 16];

	return where == AGAIN ? find_again(addr) : where;
}

/* Loads from a context take constant offsets only; without the barriers clang would compute one. */
#define ARG(n, load)                                                                                 \
	if (index == n)                                                                              \
		value = load;                                                                        \
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

/* fentry, one program a function: without bpf_get_func_arg(), which is there since v5.17. */
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

#endif /* __ARGUMENTS_BPF_H__ */
