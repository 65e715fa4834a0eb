// SPDX-License-Identifier: GPL-2.0-only
/*
 * The entry points, one per way to attach. They find the skb among the arguments; what happens to
 * it then is the same for all. User space loads only the program of the backend that it uses.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "pwru.h"
#include "arguments.bpf.h"
#include "config.bpf.h"
#include "details.bpf.h"
#include "emit.bpf.h"
#include "hit.bpf.h"
#include "match.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * Entry address of the probed function. For kprobe-multi on x86-64 the IP is just past the ftrace
 * nop, 5 or 9 bytes in, so rounding down avoids a helper call.
 */
static __always_inline __u64 function_addr(struct pt_regs *ctx, bool multi)
{
	if (!multi)
		return PT_REGS_IP(ctx);
	return config.ip_is_entry ? PT_REGS_IP(ctx) & ~15ULL : bpf_get_func_ip(ctx);
}

/* Looking these up again is cheaper than keeping them in registers across the filter. */
static __noinline int emit_function(struct pt_regs *ctx, struct sk_buff *skb, bool multi)
{
	__u64 addr = function_addr(ctx, multi);
	__u32 args = find_skb_arg(addr);
	struct hit hit = { .ctx = ctx, .skb = skb, .addr = addr };

	if (args & REASON_ARG)
		hit.reason = function_arg(ctx, (args & SKB_ARG) + 1);
	if (wants_location())
		BPF_KPROBE_READ_RET_IP(hit.location, ctx);
	return emit(&hit);
}

static __always_inline int trace_function(struct pt_regs *ctx, bool multi)
{
	__u32 args = find_skb_arg(function_addr(ctx, multi));
	struct sk_buff *skb;

	if (!args) /* most have the skb as their first argument, and no reason */
		skb = (void *)PT_REGS_PARM1(ctx);
	else
		skb = skb_pointer(args, function_arg(ctx, args & SKB_ARG));
	return HANDLE(skb, emit_function(ctx, skb, multi));
}

SEC("kprobe")
int on_kprobe(struct pt_regs *ctx)
{
	return trace_function(ctx, false);
}

SEC("kprobe.multi")
int on_kprobe_multi(struct pt_regs *ctx)
{
	return trace_function(ctx, true);
}

/* Since v7.2. */
SEC("fentry.multi")
int on_fentry_multi(__u64 *ctx)
{
	__u64 addr = bpf_get_func_ip(ctx);
	__u32 args = find_skb_arg(addr);
	struct sk_buff *skb = skb_pointer(args, traced_arg(ctx, args & SKB_ARG));

	return HANDLE(skb, emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.addr = addr,
		.reason = args & REASON_ARG ? traced_arg(ctx, (args & SKB_ARG) + 1) : 0,
		.location = wants_location() ? find_caller(ctx, addr, ENTRY_BYTES) : 0,
	}));
}

/*
 * The trace has ended: set before the programs go, which takes a while
 * (pwru/live/backends/fentry.py).
 */
volatile __u32 stopped SEC(".data.stopped") = 0;

/*
 * The template for fentry: user space loads a copy of it per function, with both constants
 * replaced. Bits 0-3 of the first say which argument is the skb, 4-7 the drop reason (NO_ARG:
 * none), 8 that it is a struct sk_buff **; the second is the address to report. The template itself
 * is loaded as raw_tp, which needs no attach target.
 */
SEC("raw_tp")
int on_fentry(__u64 *ctx)
{
	__u64 args, addr;
	struct sk_buff *skb;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(FENTRY_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(addr) : "i"(FENTRY_ADDRESS));
	if (args & FENTRY_POINTER) {
		/* The verifier refuses to load a pointer of such a type from the context. */
		if (bpf_probe_read_kernel(&skb, sizeof(skb), &ctx[args & 15]) ||
		    bpf_probe_read_kernel(&skb, sizeof(skb), skb))
			return 0;
	} else {
		skb = (void *)fentry_arg(ctx, args & 15);
	}
	return HANDLE(skb, emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.addr = addr,
		.reason = fentry_arg(ctx, args >> 4 & 15),
		.location = wants_location() ? find_caller(ctx, addr, ENTRY_BYTES) : 0,
	}));
}

/* What the tracepoint says, or else where it is: in the caller of bpf_trace_run1..12(). */
static __always_inline __u64 tracepoint_location(struct bpf_raw_tracepoint_args *ctx, __u32 index)
{
	__u64 location = tracepoint_arg(ctx, index);

	if (config.trace_run && !location)
		return find_caller(ctx, config.trace_run, config.trace_run_size);
	return location;
}

/*
 * The template for tracepoints: user space loads a copy of it per tracepoint, with the constant
 * replaced. Bits 0-3 say which argument is the skb, 4-7 the drop reason, 8-11 the location (NO_ARG:
 * none), 32-63 the number of the tracepoint.
 */
SEC("raw_tp")
int on_tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 args;
	__u32 reason;
	struct sk_buff *skb;

	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(TRACEPOINT_TEMPLATE));
	skb = (void *)tracepoint_arg(ctx, args & 15);
	reason = tracepoint_arg(ctx, args >> 4 & 15);
	if (!reason_matches(reason))
		return 0;
	return HANDLE(skb, emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.addr = args >> 32,
		.reason = reason,
		.location = tracepoint_location(ctx, args >> 8 & 15),
	}));
}
