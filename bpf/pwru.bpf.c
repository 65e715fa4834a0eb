// SPDX-License-Identifier: GPL-2.0-only
/*
 * The entry points, one for each way to attach. They find the skb among the arguments; what happens to it then is the
 * same for all. User space loads only the program of the backend that it uses.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "pwru.h"
#include "arguments.bpf.h"
#include "read.bpf.h"
#include "capture.bpf.h"
#include "filter.bpf.h"
#include "match.bpf.h"
#include "details.bpf.h"
#include "emit.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __noinline __u64 read_pointer(__u64 at)
{
	__u64 pointer = 0;

	bpf_probe_read_kernel(&pointer, sizeof(pointer), (void *)at);
	return pointer;
}

static __always_inline struct sk_buff *the_skb(__u32 where, __u64 arg)
{
	return (void *)(where & SKB_ARG_POINTER ? read_pointer(arg) : arg);
}

/* Of where a kprobe was hit. On x86-64 `multi` is behind the ftrace nop, 5 or 9 bytes from the entry: no call. */
static __always_inline __u64 function_addr(struct pt_regs *ctx, bool multi)
{
	if (!multi)
		return PT_REGS_IP(ctx);
	return config.ip_is_entry ? PT_REGS_IP(ctx) & ~15ULL : bpf_get_func_ip(ctx);
}

static __always_inline bool wants_caller(void)
{
	return config.location_at || config.stack_at;
}

/* To find things again is cheaper than to keep them. */
static __noinline int emit_function(struct pt_regs *ctx, struct sk_buff *skb, bool multi)
{
	__u64 addr = function_addr(ctx, multi);
	__u32 where = find_skb_arg(addr);
	__u64 caller = 0;

	if (wants_caller())
		BPF_KPROBE_READ_RET_IP(caller, ctx);
	return emit(ctx, skb, addr, where & REASON_ARG ? function_arg(ctx, (where & SKB_ARG) + 1) : 0, caller);
}

static __always_inline int trace_function(struct pt_regs *ctx, bool multi)
{
	__u32 where = find_skb_arg(function_addr(ctx, multi));
	struct sk_buff *skb;

	if (!where) /* most have the skb as their first argument, and no reason */
		skb = (void *)PT_REGS_PARM1(ctx);
	else
		skb = the_skb(where, function_arg(ctx, where & SKB_ARG));
	return skb && matches(skb) ? emit_function(ctx, skb, multi) : 0;
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

/* Since v7.2. The verifier knows no argument's type, as the functions have nothing in common. */
SEC("fentry.multi")
int on_fentry_multi(__u64 *ctx)
{
	__u64 addr = bpf_get_func_ip(ctx), arg = 0, reason = 0;
	__u32 where = find_skb_arg(addr);
	struct sk_buff *skb;

	bpf_get_func_arg(ctx, where & SKB_ARG, &arg);
	skb = the_skb(where, arg);
	if (!skb || !matches(skb))
		return 0;
	if (where & REASON_ARG)
		bpf_get_func_arg(ctx, (where & SKB_ARG) + 1, &reason);
	return emit(ctx, skb, addr, reason, wants_caller() ? find_caller(ctx, addr, ENTRY_BYTES) : 0);
}

/*
 * The template for fentry: user space loads a copy of it for each function, with both constants replaced. Bits 0-3 of
 * the first say which argument is the skb, 4-7 the drop reason (15: none), 8 that it is a struct sk_buff **; the second
 * is the address to report. It takes no function that it could be loaded for itself to be loaded as a raw_tp program.
 */
#define FENTRY_TEMPLATE 0x70777275000000f0
#define FENTRY_ADDRESS 0x7077727600000000

/* The trace has ended: set before the programs go, which takes the kernel a while (pwru/live/backends/fentry.py). */
volatile __u32 stopped SEC(".data.stopped") = 0;

SEC("raw_tp")
int on_fentry(__u64 *ctx)
{
	__u64 what, addr;
	struct sk_buff *skb;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(what) : "i"(FENTRY_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(addr) : "i"(FENTRY_ADDRESS));
	if (what & 0x100) {
		/* The verifier lets no such pointer be loaded from the context: it knows its type and has no use for it. */
		if (bpf_probe_read_kernel(&skb, sizeof(skb), &ctx[what & 15]) ||
		    bpf_probe_read_kernel(&skb, sizeof(skb), skb))
			return 0;
	} else {
		skb = (void *)fentry_arg(ctx, what & 15);
	}
	if (!skb || !matches(skb))
		return 0;
	return emit(ctx, skb, addr, fentry_arg(ctx, what >> 4 & 15),
		    wants_caller() ? find_caller(ctx, addr, ENTRY_BYTES) : 0);
}

/*
 * The template for tracepoints: user space loads a copy of it for each, with the constant below replaced. Bits 0-3 say
 * which argument is the skb, 4-7 the drop reason, 8-11 the location (15: none), 32-63 the number of the tracepoint.
 */
#define TRACEPOINT_TEMPLATE 0x7077727500000ff0

SEC("raw_tp")
int on_tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 what, location;
	__u32 reason;
	struct sk_buff *skb;

	asm volatile("%0 = %1 ll" : "=r"(what) : "i"(TRACEPOINT_TEMPLATE));
	skb = (void *)tracepoint_arg(ctx, what & 15);
	reason = tracepoint_arg(ctx, what >> 4 & 15);
	if (!skb || !reason_matches(reason) || !matches(skb))
		return 0;
	location = tracepoint_arg(ctx, what >> 8 & 15);
	if (config.trace_run && !location)
		location = find_caller(ctx, config.trace_run, config.trace_run_size);
	return emit(ctx, skb, what >> 32, reason, location);
}
