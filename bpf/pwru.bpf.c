// SPDX-License-Identifier: GPL-2.0-only
/*
 * The entry points: for each way to attach, where the skb is among the arguments. What happens to it is in trace().
 *
 * User space loads only the programs that a run attaches. Names are how it finds them: kprobe_skb2 takes the skb as
 * second argument, kprobe_pskb2 a pointer to the skb.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "pwru.h"
#include "capture.bpf.h"
#include "filter.bpf.h"
#include "match.bpf.h"
#include "emit.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __noinline void capture(struct event *event, struct sk_buff *skb)
{
	event->cpu = bpf_get_smp_processor_id();
	capture_process(&event->process);
	capture_packet(skb, &event->packet);
}

static __always_inline int trace(struct sk_buff *skb, __u64 addr, __u32 reason, __u64 location)
{
	struct event *event;

	if (!skb || !matches(skb))
		return 0;
	event = reserve_event();
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->skb = (__u64)skb;
	event->addr = addr;
	event->reason = reason;
	event->location = location;
	capture(event, skb);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

static __always_inline struct sk_buff *deref(void *pskb)
{
	struct sk_buff *skb = 0;

	bpf_probe_read_kernel(&skb, sizeof(skb), pskb);
	return skb;
}

/* A drop reason, where there is one, is the argument after the skb. */
#define KPROBE(section, prefix, n, next)                                                             \
	SEC(section)                                                                                 \
	int prefix##_skb##n(struct pt_regs *ctx)                                                     \
	{                                                                                            \
		return trace((void *)PT_REGS_PARM##n(ctx), PT_REGS_IP(ctx), next, 0);                \
	}                                                                                            \
	SEC(section)                                                                                 \
	int prefix##_pskb##n(struct pt_regs *ctx)                                                    \
	{                                                                                            \
		return trace(deref((void *)PT_REGS_PARM##n(ctx)), PT_REGS_IP(ctx), next, 0);         \
	}

KPROBE("kprobe", kprobe, 1, PT_REGS_PARM2(ctx))
KPROBE("kprobe", kprobe, 2, PT_REGS_PARM3(ctx))
KPROBE("kprobe", kprobe, 3, PT_REGS_PARM4(ctx))
KPROBE("kprobe", kprobe, 4, PT_REGS_PARM5(ctx))
KPROBE("kprobe", kprobe, 5, 0)

KPROBE("kprobe.multi", kprobe_multi, 1, PT_REGS_PARM2(ctx))
KPROBE("kprobe.multi", kprobe_multi, 2, PT_REGS_PARM3(ctx))
KPROBE("kprobe.multi", kprobe_multi, 3, PT_REGS_PARM4(ctx))
KPROBE("kprobe.multi", kprobe_multi, 4, PT_REGS_PARM5(ctx))
KPROBE("kprobe.multi", kprobe_multi, 5, 0)

/*
 * The template for tracepoints: user space loads a copy of it for each, with the constant below replaced. Bits 0-3 say
 * which argument is the skb, 4-7 the drop reason, 8-11 the location (15: none), 32-63 the number of the tracepoint.
 */
#define TRACEPOINT_TEMPLATE 0x7077727500000ff0

static __always_inline __u64 tracepoint_arg(struct bpf_raw_tracepoint_args *ctx, __u64 index)
{
	__u64 value = 0;

	/* Loads from the context need constant offsets; without the barriers clang computes one. */
#define ARG(n)                                                                                       \
	if (index == n)                                                                              \
		value = ctx->args[n];                                                                \
	barrier_var(value);
	ARG(0) ARG(1) ARG(2) ARG(3) ARG(4) ARG(5) ARG(6) ARG(7)
#undef ARG
	return value;
}

SEC("raw_tp")
int tracepoint(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 what;

	asm volatile("%0 = %1 ll" : "=r"(what) : "i"(TRACEPOINT_TEMPLATE));
	return trace((void *)tracepoint_arg(ctx, what & 15), what >> 32, tracepoint_arg(ctx, what >> 4 & 15),
		     tracepoint_arg(ctx, what >> 8 & 15));
}
