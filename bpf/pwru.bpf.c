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
#include "follow.bpf.h"
#include "helper.bpf.h"
#include "hit.bpf.h"
#include "match.bpf.h"
#include "prog.bpf.h"
#include "read.bpf.h"
#include "stack.bpf.h"
#include "xdp.bpf.h"

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
static __always_inline int emit_function(struct pt_regs *ctx, struct sk_buff *skb, bool multi,
					 bool following)
{
	__u64 addr = function_addr(ctx, multi);
	__u32 args = find_skb_arg(addr);
	struct hit hit = { .ctx = ctx, .skb = skb, .addr = addr };
	struct on_stack stack;

	hit.sk = sock_arg(ctx, sock_index(args, following));
	if (has_reason(args, following))
		hit.reason = function_arg(ctx, skb_index(args, following) + 1);
	if (wants_location())
		hit.location = load_u64(PT_REGS_RET(ctx));
	if (!following) {
		emit_plain(&hit);
		return 0;
	}
	hit.code = args;
	if (!config.by_stack)
		return emit_followed(&hit, 0);
	stack = (struct on_stack){ .slot = PT_REGS_SP(ctx) };
	return emit_followed(&hit, &stack);
}

static __noinline int emit_plain_function(struct pt_regs *ctx, struct sk_buff *skb, bool multi)
{
	return emit_function(ctx, skb, multi, false);
}

static __noinline int emit_followed_function(struct pt_regs *ctx, struct sk_buff *skb, bool multi)
{
	return emit_function(ctx, skb, multi, true);
}

static __noinline struct sock *function_sock(struct pt_regs *ctx, bool multi)
{
	__u32 args = find_skb_arg(function_addr(ctx, multi));

	return sock_arg(ctx, args & SOCK_ARG);
}

static __noinline struct sock *followed_sock(struct pt_regs *ctx, bool multi)
{
	__u32 args = find_skb_arg(function_addr(ctx, multi));

	return sock_arg(ctx, sock_index(args, true));
}

static __noinline __u32 function_code(struct pt_regs *ctx, bool multi)
{
	return find_skb_arg(function_addr(ctx, multi));
}

static __noinline int follow_function(struct pt_regs *ctx, bool multi)
{
	__u32 code = find_skb_arg(function_addr(ctx, multi));

	if (has_role(code, true))
		follow_role(code, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}

/* `skb` is another one than the packet's. NULL: the function has none, and so no frame of its own. */
static __noinline int trace_by_stack(struct pt_regs *ctx, struct sk_buff *skb, bool multi)
{
	struct hit hit = { .ctx = ctx, .skb = skb, .addr = function_addr(ctx, multi) };
	struct on_stack stack = {};

	hit.code = find_skb_arg(hit.addr);
	if (is_silent(hit.code))
		return 0;
	stack.frame = find_frame(PT_REGS_SP(ctx));
	if (!stack.frame)
		return 0;
	if (skb)
		stack.slot = PT_REGS_SP(ctx);
	else
		hit.skb = living_skb(stack.frame);
	if (wants_location())
		hit.location = load_u64(PT_REGS_RET(ctx));
	return emit_followed(&hit, &stack);
}

static __always_inline int trace_function(struct pt_regs *ctx, bool multi, bool following)
{
	__u32 args = find_skb_arg(function_addr(ctx, multi));
	struct sk_buff *skb;
	int told;

	if (following && args >= STACK_CODE && config.by_stack) {
		trace_by_stack(ctx, 0, multi);
		return 0;
	}
	if (args <= SOCK_ARG) /* most have the skb as their first argument, and no reason */
		skb = (void *)PT_REGS_PARM1(ctx);
	else if (has_role(args, following))
		skb = (void *)function_arg(ctx, skb_index(args, following));
	else
		skb = skb_pointer(args, function_arg(ctx, args / SKB_ARG_UNIT));
	if (!following) {
		HANDLE(skb, function_sock(ctx, multi), false, 0,
		       emit_plain_function(ctx, skb, multi));
		return 0;
	}
	told = HANDLE(skb, followed_sock(ctx, multi), true, function_code(ctx, multi),
		      emit_followed_function(ctx, skb, multi));
	if (!told && skb && config.by_stack)
		trace_by_stack(ctx, skb, multi);
	return follow_function(ctx, multi);
}

/*
 * There are two programs of each kind. Those that follow packets are called _following: what they
 * need costs the others nothing, neither at a hit nor at the load.
 */
SEC("kprobe")
int on_kprobe(struct pt_regs *ctx)
{
	return trace_function(ctx, false, false);
}

SEC("kprobe")
int on_kprobe_following(struct pt_regs *ctx)
{
	return trace_function(ctx, false, true);
}

SEC("kprobe.multi")
int on_kprobe_multi(struct pt_regs *ctx)
{
	return trace_function(ctx, true, false);
}

SEC("kprobe.multi")
int on_kprobe_multi_following(struct pt_regs *ctx)
{
	return trace_function(ctx, true, true);
}

static __always_inline int trace_fentry_multi(__u64 *ctx, bool following)
{
	__u64 addr = bpf_get_func_ip(ctx);
	__u32 args = find_skb_arg(addr), index = skb_index(args, following);
	struct sk_buff *skb = (void *)traced_arg(ctx, index);

	if (!has_role(args, following))
		skb = skb_pointer(args, (__u64)skb);
	HANDLE(skb, traced_sock_arg(ctx, sock_index(args, following)), following, args,
	       emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.sk = traced_sock_arg(ctx, sock_index(args, following)),
		.addr = addr,
		.reason = has_reason(args, following) ? traced_arg(ctx, index + 1) : 0,
		.location = wants_location() ? find_caller(ctx, addr, ENTRY_BYTES) : 0,
		.code = args,
	}, following));
	if (has_role(args, following))
		follow_role(args, traced_arg(ctx, 0), traced_arg(ctx, 1));
	return 0;
}

/* Since v7.2. */
SEC("fentry.multi")
int on_fentry_multi(__u64 *ctx)
{
	return trace_fentry_multi(ctx, false);
}

SEC("fentry.multi")
int on_fentry_multi_following(__u64 *ctx)
{
	return trace_fentry_multi(ctx, true);
}

/*
 * The trace has ended: set before the programs go, which takes a while
 * (pwru/live/backends/fentry.py).
 */
volatile __u32 stopped SEC(".data.stopped") = 0;

static __always_inline int trace_fentry(__u64 *ctx, bool following)
{
	__u64 args, addr;
	struct sk_buff *skb;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(FENTRY_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(addr) : "i"(FENTRY_ADDRESS));
	if (args & FENTRY_POINTER) {
		/* The verifier refuses to load a pointer of such a type from the context. */
		skb = (void *)load_u64(load_u64((__u64)&ctx[args & 15]));
	} else {
		skb = (void *)fentry_arg(ctx, args & 15);
		if (following) /* its address is a key */
			skb = (void *)scalar((__u64)skb);
	}
	HANDLE(skb, fentry_sock(ctx, args >> 12 & 15), following, args >> 32, emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.sk = fentry_sock(ctx, args >> 12 & 15),
		.addr = addr,
		.reason = fentry_arg(ctx, args >> 4 & 15),
		.location = wants_location() ? find_caller(ctx, addr, ENTRY_BYTES) : 0,
		.code = args >> 32,
	}, following));
	if (has_role(args >> 32, following))
		follow_role(args >> 32, scalar(ctx[0]),
			    role_of(args >> 32) >= ROLE_PAIR ? scalar(ctx[1]) : 0);
	return 0;
}

/*
 * The template for fentry: user space loads a copy of it per function, with both constants
 * replaced. Bits 0-3 of the first say which argument is the skb, 4-7 the drop reason (NO_ARG:
 * none), 8 that it is a struct sk_buff **, 12-15 the socket (or NO_ARG), 32-39 a code with a role, or
 * 0; the second is the address to report. The template itself is loaded as raw_tp, which needs no
 * attach target.
 */
SEC("raw_tp")
int on_fentry(__u64 *ctx)
{
	return trace_fentry(ctx, false);
}

SEC("raw_tp")
int on_fentry_following(__u64 *ctx)
{
	return trace_fentry(ctx, true);
}

/* What the tracepoint says, or else where it is: in the caller of bpf_trace_run1..12(). */
static __always_inline __u64 tracepoint_location(struct bpf_raw_tracepoint_args *ctx, __u64 count,
						 __u32 index)
{
	__u64 location = tracepoint_arg(ctx, count, index);

	if (config.trace_run && !location)
		return find_caller(ctx, config.trace_run, config.trace_run_size);
	return location;
}

static __always_inline int trace_tracepoint(struct bpf_raw_tracepoint_args *ctx, bool following)
{
	__u64 args, count = MAX_TRACEPOINT_ARGS;
	__u32 reason, code;
	struct sk_buff *skb;

	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(TRACEPOINT_TEMPLATE));
	if (config.has_cookie) {
		count = args;
		args = bpf_get_attach_cookie(ctx);
	}
	skb = (void *)tracepoint_arg(ctx, count, args & 15);
	reason = tracepoint_arg(ctx, count, args >> 4 & 15);
	if (!reason_matches(reason))
		return 0;
	code = args >> 16 & 255;
	HANDLE(skb, (void *)tracepoint_arg(ctx, count, args >> 12 & 15), following, code,
	       emit(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.sk = (void *)tracepoint_arg(ctx, count, args >> 12 & 15),
		.addr = args >> 32,
		.reason = reason,
		.location = tracepoint_location(ctx, count, args >> 8 & 15),
		.code = code,
	}, following));
	if (has_role(code, following))
		follow_role(code, (__u64)skb, (__u64)skb);
	return 0;
}

/*
 * The template for tracepoints: user space loads a copy of it per tracepoint, with the constant
 * replaced. Bits 0-3 say which argument is the skb, 4-7 the drop reason, 8-11 the location, 12-15 the
 * socket (NO_ARG: none), 16-23 a code with a role or 0, 32-63 the number of the tracepoint.
 *
 * With cookies, since v6.10, a copy serves all tracepoints of which it may read as many arguments:
 * that is its constant, and the cookie of the link is what the constant is elsewhere.
 */
SEC("raw_tp")
int on_tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	return trace_tracepoint(ctx, false);
}

SEC("raw_tp")
int on_tracepoint_following(struct bpf_raw_tracepoint_args *ctx)
{
	return trace_tracepoint(ctx, true);
}

/*
 * Whose packet the program works for is noted at its entry, until its exit. If it is that of another
 * packet, what was noted of the last call from the same place does not count.
 */
static __noinline void leave_program(__u64 *ctx, __u64 code, __u64 args)
{
	leave_frame(program_slot(ctx, code, args));
	RETURN_VOID;
}

static __always_inline int trace_program(__u64 *ctx, bool following)
{
	__u64 args, number, code;
	struct sk_buff *skb;
	int told;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(PROGRAM_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(number) : "i"(PROGRAM_NUMBER));
	asm volatile("%0 = %1 ll" : "=r"(code) : "i"(PROGRAM_CODE));
	skb = program_skb(ctx, args);
	told = HANDLE(skb, (struct sock *)0, following, 0, emit_program(&(struct hit){
		.ctx = ctx,
		.skb = skb,
		.addr = number,
		.reason = fentry_arg(ctx, args & 15),
		.location = wants_location() ? program_caller(ctx, code, args) : 0,
	}, &(struct on_stack){
		.slot = following && config.by_stack ? program_slot(ctx, code, args) : 0,
	}, following));
	if (following && config.by_stack && (!told || (args & PROGRAM_ENTRY) != NO_ARG))
		leave_program(ctx, code, args);
	return 0;
}

/*
 * The template for BPF programs that see an skb: user space loads two copies of it for each, for
 * its entry (fentry) and its exit (fexit), with the constants replaced. Bits 0-3 of the first say
 * which word of the context is the verdict (NO_ARG: none, at the entry), bit 4 that the program's
 * argument is a struct bpf_nf_ctx *, bits 8-11 how many words the arguments take. The second is the
 * number to report, the third the address of the program's code, by which its caller is found.
 */
SEC("raw_tp")
int on_program(__u64 *ctx)
{
	return trace_program(ctx, false);
}

SEC("raw_tp")
int on_program_following(__u64 *ctx)
{
	return trace_program(ctx, true);
}

static __always_inline int trace_xdp(__u64 *ctx, bool following)
{
	__u64 args, number, code;
	struct xdp_buff *xdp;
	bool is_entry;
	int told = 0;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(PROGRAM_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(number) : "i"(PROGRAM_NUMBER));
	asm volatile("%0 = %1 ll" : "=r"(code) : "i"(PROGRAM_CODE));
	xdp = (void *)scalar(ctx[0]);
	is_entry = (args & PROGRAM_ENTRY) == NO_ARG;
	if (xdp_is_traced(xdp, is_entry, following))
		told = emit_xdp(&(struct hit){
		.ctx = ctx,
		.skb = (void *)xdp,
		.addr = number,
		.reason = fentry_arg(ctx, args & 15),
		.location = wants_location() ? program_caller(ctx, code, args) : 0,
	}, following && config.by_stack ? program_slot(ctx, code, args) : 0, is_entry, following);
	if (following && config.by_stack && (!told || !is_entry))
		leave_program(ctx, code, args);
	return 0;
}

/* The same for programs of XDP, whose packets are no skbs. */
SEC("raw_tp")
int on_xdp(__u64 *ctx)
{
	return trace_xdp(ctx, false);
}

SEC("raw_tp")
int on_xdp_following(__u64 *ctx)
{
	return trace_xdp(ctx, true);
}

/*
 * The template for what BPF programs call: user space loads a copy of it for each function, for its
 * entry or, if it looks something up, its exit. Bits 0-3 of the first constant say which argument is
 * the key of a map, 4-7 the value (NO_ARG: none), 8-11 how many there are; then enum template: the
 * first is a map (HELPER_MAP), whose key is passed itself; it returns the address of the value, or
 * of a hash's element; it has put the value there if it returned 0. The second is its address.
 *
 * It is called by more than the traced programs, and by our own: what it does first must be cheap,
 * and, up to v5.11, which would let it call itself, use no hash.
 */
SEC("raw_tp")
int on_helper(__u64 *ctx)
{
	struct hit hit = { .ctx = ctx, .code = STACK_CODE };
	struct frame *frame;
	__u64 args;

	if (stopped)
		return 0;
	asm volatile("%0 = %1 ll" : "=r"(args) : "i"(HELPER_TEMPLATE));
	asm volatile("%0 = %1 ll" : "=r"(hit.addr) : "i"(HELPER_ADDRESS));
	if (is_own_map(ctx, args))
		return 0;
	frame = find_frame(scalar((__u64)ctx));
	if (!frame || !frame->program)
		return 0;
	if (wants_location())
		hit.location = program_caller(ctx, hit.addr, args);
	hit.skb = (void *)frame->skb;
	if (frame->program == FRAME_XDP)
		return emit_xdp_call(&hit, frame, args);
	return emit_skb_call(&hit, frame, args);
}
