/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which packet a function works for that has no skb, or another one: by the kernel stack.
 *
 * Each event of a packet that is followed notes the frame of its function: where its return address
 * is, and what that is. Whatever runs below that place works for the packet, until the function has
 * returned: then the stack pointer is above it, or the place has other contents. That needs neither
 * frame pointers nor probes of returns. Of several packets on one stack, as an ACK that is sent while
 * a segment is received, the innermost frame counts.
 *
 * What is done below with other skbs, which did not match, is done for the packet, too, but these
 * are not followed: their frames say so.
 *
 * A function that nobody traces may be called from the same place as the one before, through a
 * pointer: until the next event of that stack its callees count as those of the function before.
 *
 * For x86-64 only: elsewhere, the return address is in a register at a function's entry.
 */
#ifndef __STACK_BPF_H__
#define __STACK_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "account.bpf.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "follow.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

#define THREAD_SIZE (16 << 10)

enum frame_program {
	FRAME_PROGRAM = 1, /* of BPF, its packet is an skb */
	FRAME_XDP,
};

struct frame {
	__u64 slot; /* address of the return address, that is, the stack pointer at entry; 0: none */
	__u64 caller; /* what is there until it returns */
	__u64 skb;
	__u64 packet; /* see struct follow */
	__u64 instance; /* 0: the skb is another one, which is worked on below one of the packet */
	__u64 program; /* enum frame_program, if it is that of one */
};

/* The frames on one stack, in any order. */
struct stack_frames {
	__u64 stack; /* see find_stack() */
	struct frame frames[STACK_DEPTH];
};

/* By a hash of the stack, or next to that. User space gives it room if it is needed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack_frames);
} stacks SEC(".maps");

/* The current task's, or those for interrupts, of which each CPU has its own. */
static __always_inline __u64 find_stack(__u64 sp)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 stack = scalar((__u64)get(task, stack));

	return sp - stack < THREAD_SIZE ? stack : bpf_get_smp_processor_id() + 1;
}

static __always_inline struct stack_frames *stack_place(__u64 stack, __u32 other)
{
	/* Stacks are far apart, and those for interrupts have small numbers. */
	__u32 place = ((__u32)(stack >> 12 ^ stack) * GOLDEN) >> (32 - STACK_BITS) ^ other;

	return bpf_map_lookup_elem(&stacks, &place);
}

/* NULL: it has no frames. */
static __always_inline struct stack_frames *find_frames(__u64 sp)
{
	__u64 stack = find_stack(sp);
	struct stack_frames *found = stack_place(stack, 0);

	if (found && found->stack == stack)
		return found;
	found = stack_place(stack, 1);
	return found && found->stack == stack ? found : 0;
}

/* Whether the function has not returned yet. */
static __always_inline bool is_in_frame(const struct frame *frame)
{
	return frame->slot && load_u64(frame->slot) == frame->caller;
}

static __always_inline bool is_in_use(const struct stack_frames *frames)
{
	bool used = false;

	for (int i = 0; i < STACK_DEPTH; i++)
		used |= is_in_frame(&frames->frames[i]);
	return used;
}

/* A place for another stack; NULL: there is no room, which is counted. */
static __noinline struct stack_frames *add_stack(__u64 stack)
{
	struct stack_frames *first = stack_place(stack, 0), *second = stack_place(stack, 1);
	struct counters *count = find_counters();
	struct stack_frames *found = 0;

	if (first && !is_in_use(first))
		found = first;
	else if (second && !is_in_use(second))
		found = second;
	if (found) {
		for (int i = 0; i < STACK_DEPTH; i++)
			found->frames[i].slot = 0;
		found->stack = stack;
	} else if (count) {
		__sync_fetch_and_add(&count->no_stack, 1);
	}
	return found;
}

/*
 * The number of the innermost frame in which the function at `slot` runs, from 1; 0: there is none.
 * The frames of functions that have returned are forgotten.
 */
static __noinline __u32 find_enclosing(struct stack_frames *frames, __u64 slot)
{
	__u64 innermost = ~0ULL;
	__u32 found = 0;

	for (int i = 0; i < STACK_DEPTH; i++) {
		struct frame *frame = &frames->frames[i];

		if (frame->slot <= slot || !is_in_frame(frame)) {
			frame->slot = 0;
		} else if (frame->slot < innermost) {
			innermost = frame->slot;
			found = i + 1;
		}
	}
	return forget(found);
}

/* The frame of a packet that the function at `slot` works for; NULL: there is none. */
static __always_inline struct frame *find_frame(__u64 slot)
{
	struct stack_frames *frames = find_frames(slot);
	__u32 number = frames ? find_enclosing(frames, slot) : 0;

	return number ? &frames->frames[(number - 1) & (STACK_DEPTH - 1)] : 0;
}

/* There was an event in a function with an skb: from here on it works for the packet. */
static __noinline void enter_frame(__u64 slot, struct sk_buff *skb, const struct follow *told,
				   __u64 program)
{
	struct stack_frames *frames = find_frames(slot);
	struct counters *count = find_counters();
	struct frame *frame;
	__u32 number;

	if (!frames)
		frames = add_stack(find_stack(slot));
	if (!frames)
		goto out;
	number = find_enclosing(frames, slot);
	frame = &frames->frames[(number - 1) & (STACK_DEPTH - 1)];
	if (number && frame->skb == (__u64)skb && frame->instance == told->instance &&
	    frame->program == program)
		goto out;
	for (int i = 0; i < STACK_DEPTH; i++) {
		frame = &frames->frames[i];
		if (!frame->slot) {
			frame->slot = slot;
			frame->caller = load_u64(slot);
			frame->skb = (__u64)skb;
			frame->packet = told->packet;
			frame->instance = told->instance;
			frame->program = program;
			goto out;
		}
	}
	if (count)
		__sync_fetch_and_add(&count->no_stack, 1);
out:
	RETURN_VOID;
}

/*
 * A function that works for no packet that is followed, or does so no longer: its frame may look like
 * that of the call before.
 */
static __noinline void leave_frame(__u64 slot)
{
	struct stack_frames *frames = find_frames(slot);

	if (frames)
		find_enclosing(frames, slot);
	RETURN_VOID;
}

/* What an event says in a function that works for the packet of this frame. */
static __always_inline void tell_by_stack(const struct frame *frame, bool has_skb,
					  struct follow *told)
{
	__builtin_memset(told, 0, sizeof(*told));
	told->packet = frame->packet;
	told->instance = has_skb ? 0 : frame->instance;
	told->tracked_by = TRACKED_BY_STACKID;
}

/* The skb of a frame, if it still is that one: it may have been released. */
static __always_inline struct sk_buff *living_skb(const struct frame *frame)
{
	struct followed *f = find_followed(frame->skb);
	bool same = f && f->follow.instance == frame->instance;

	return same && f->head == get_head((void *)frame->skb) ? (void *)frame->skb : 0;
}

#endif /* __STACK_BPF_H__ */
