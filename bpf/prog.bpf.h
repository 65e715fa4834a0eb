/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * BPF programs that see packets: where they have them.
 */
#ifndef __PROG_BPF_H__
#define __PROG_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "details.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

/* From the arguments on: up to five, what was returned, the frame pointer, the return address. */
#define TRAMPOLINE_WORDS 12

/* Since commit fd9c663b9ad6 ("bpf: minimal support for programs hooked into netfilter framework"). */
struct bpf_nf_ctx___new {
	struct sk_buff *skb;
} __attribute__((preserve_access_index));

/*
 * What a traced program calls struct __sk_buff is a struct sk_buff. As a number: whether the
 * verifier knows the type depends on how the program declares its argument.
 */
static __always_inline struct sk_buff *program_skb(__u64 *ctx, __u64 args)
{
	__u64 arg = scalar(ctx[0]);

	if (args & PROGRAM_NETFILTER)
		arg = load_u64(arg + bpf_core_field_offset(struct bpf_nf_ctx___new, skb));
	return (void *)arg;
}

/*
 * Where the return address of the program is whose code begins at `code`. x86-64 enters the
 * trampoline before the program has made its frame, so the kernel's unwinder may lose its way
 * there. But the trampoline's frame is known: the context, what was returned, the frame pointer,
 * the return address. If that leads into the program, which has called the trampoline, the
 * program's own is next. Newer kernels (v7.2) have it jump there. 0 elsewhere, where it is in a
 * register.
 */
static __noinline __u64 program_slot(void *ctx, __u64 code, __u64 args)
{
#if defined(__TARGET_ARCH_x86)
	__u64 frame = scalar((__u64)ctx);
	__u64 slot = frame + 8 * ((args >> 8 & 15) + 2);

	for (int i = 0; i < TRAMPOLINE_WORDS; i++)
		if (load_u64(frame + 8 * i) - code < ENTRY_BYTES)
			slot = frame + 8 * (i + 1);
	return slot;
#else
	(void)ctx, (void)code, (void)args;
	return 0;
#endif
}

/* Who called the program. */
static __noinline __u64 program_caller(void *ctx, __u64 code, __u64 args)
{
	__u64 slot = program_slot(ctx, code, args);

	return slot ? load_u64(slot) : find_caller(ctx, code, ENTRY_BYTES);
}

#endif /* __PROG_BPF_H__ */
