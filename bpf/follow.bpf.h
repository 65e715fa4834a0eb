/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Following packets: which skbs belong to a packet that has matched, from then on to their ends,
 * whatever becomes of their headers.
 *
 * An skb is known by its address. It is the same one as long as its head is the same, too: a known
 * address with another head is another packet, whose predecessor's end was not seen. What an skb is
 * made into is noted by the functions that do so (enum role): all clones, copies and segments pass
 * __copy_skb_header().
 *
 * Most hits are of packets that are not followed. For them it must cost next to nothing: one load
 * from `follow_slots`, which is 0 unless an skb is followed whose address has the same hash.
 */
#ifndef __FOLLOW_BPF_H__
#define __FOLLOW_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "account.bpf.h"
#include "arguments.bpf.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

#define FOLLOW_SLOT_BITS 16
#define GOLDEN 0x9e3779b1 /* a prime near 2^32 / the golden ratio: Knuth's hash */
#define CPU_BITS 10
#define MAX_FRAGMENTS 64 /* 64K, as IPv6 allows no MTU below 1280 */

/* Of struct followed. */
enum followed_state {
	HEAD_CHANGES = 1, /* its head is about to be replaced */
	NEWBORN = 2, /* no event yet: what it is made into is not known */
	MERGING = 4, /* `follow` has what it may have been merged into */
	GOES_ON = 8, /* there was another event since then */
	IS_FRAME = 16, /* of XDP: the key is where its memory begins */
	IS_SENT = 32, /* by XDP_TX or XDP_REDIRECT; `head` is the queue that it came from */
	IS_WHOLE = 64, /* put together from fragments, which may be skbs behind it */
};

/* Plain, so that it never forgets an skb that lives; user space sets its size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64); /* address of the skb */
	__type(value, struct followed);
} followed SEC(".maps");

/* The skb that ended last on this CPU: what releases it still has it after that. */
struct ended {
	__u64 skb; /* 0: none */
	struct followed was;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ended);
} ended SEC(".maps");

/*
 * The followed skb of the last hit on this CPU, and the one that was made last: XDP programs may get
 * its memory as a frame (generic XDP; veth, which may copy it before that).
 */
struct nearest {
	__u64 seen;
	__u64 made;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nearest);
} nearest SEC(".maps");

/* How many skbs of `followed` and `ended` have this hash. */
__u32 follow_slots[1 << FOLLOW_SLOT_BITS] SEC(".data.follow_slots") = {};

static __always_inline __u32 *find_slot(__u64 skb)
{
	__u32 hash = (__u32)skb * GOLDEN;

	return &follow_slots[hash >> (32 - FOLLOW_SLOT_BITS)];
}

static __always_inline bool may_be_followed(__u64 skb)
{
	return *find_slot(skb);
}

static __always_inline struct followed *find_followed(__u64 skb)
{
	return bpf_map_lookup_elem(&followed, &skb);
}

static __always_inline struct nearest *find_nearest(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nearest, &zero);
}

static __always_inline struct ended *find_ended(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ended, &zero);
}

/* Unique in a trace: no CPU does two things in the same nanosecond. */
static __always_inline __u64 new_id(void)
{
	__u64 cpu = bpf_get_smp_processor_id();

	return bpf_ktime_get_ns() << CPU_BITS | (cpu & ((1 << CPU_BITS) - 1));
}

static __noinline bool add_followed(__u64 skb, struct followed *new)
{
	if (bpf_map_update_elem(&followed, &skb, new, BPF_NOEXIST))
		return false;
	__sync_fetch_and_add(find_slot(skb), 1);
	return true;
}

static __noinline void remove_followed(__u64 skb)
{
	if (!bpf_map_delete_elem(&followed, &skb))
		__sync_fetch_and_add(find_slot(skb), -1);
	RETURN_VOID;
}

/*
 * One that was made from another one. If there is no room, nothing else may ever be seen of it. Of
 * a packet that has matched, on the other hand, user space sees and counts the events.
 */
static __noinline void add_made(__u64 skb, struct followed *new)
{
	struct counters *count = find_counters();

	remove_followed(skb);
	if (!add_followed(skb, new) && count)
		__sync_fetch_and_add(&count->no_room, 1);
	RETURN_VOID;
}

static __always_inline void forget_ended(struct ended *last)
{
	if (last->skb)
		__sync_fetch_and_add(find_slot(last->skb), -1);
	last->skb = 0;
}

static __always_inline bool is_end(__u32 role)
{
	return role == ROLE_END || role == ROLE_STOLEN || role == ROLE_END_SECOND;
}

static __always_inline bool is_after_end(__u32 role)
{
	return role == ROLE_AFTER_END || role == ROLE_LAST;
}

/*
 * An skb that is not followed: whether it is the one that has just ended. If it is seen anywhere
 * but in what releases it, it is used again.
 */
static __always_inline bool has_just_ended(__u64 skb, __u64 head, __u32 role)
{
	struct ended *last = find_ended();

	if (!last || last->skb != skb)
		return false;
	if (is_after_end(role) && last->was.head == head)
		return true;
	forget_ended(last);
	return false;
}

/* Of a part of a packet that is left to segment: skb_is_gso(). */
static __always_inline bool is_gso(struct sk_buff *skb, __u64 head)
{
	struct skb_shared_info *info = (void *)(head + get(skb, end));

	return get(info, gso_size);
}

/*
 * The first hit of an skb that was made from another one shows what it was made into. Its number
 * among the copies is that of a segment, unless it is a clone: that number is given back.
 */
static __noinline void be_born(struct sk_buff *skb, struct followed *f, __u64 head)
{
	struct followed *parent;

	f->state &= ~NEWBORN;
	if (f->follow.relation == RELATION_COPY && f->head == head) {
		f->follow.relation = RELATION_CLONE;
		parent = f->segments ? find_followed(f->skb_parent) : 0;
		if (parent && parent->follow.instance == f->follow.parent &&
		    parent->segments == f->segments)
			parent->segments--;
	} else if (f->follow.relation == RELATION_COPY && f->segments && !is_gso(skb, head)) {
		f->follow.relation = RELATION_SEGMENT;
		f->follow.segment = f->segments;
	}
	f->segments = 0;
	f->head = head;
	RETURN_VOID;
}

/*
 * The number of a fragment. Either it is an skb that had its data before: then its parent is sent
 * as the fragment before it. Or the data comes later, and the parent is no fragment.
 */
static __always_inline __u16 number_fragment(struct followed *parent, struct sk_buff *fragment)
{
	if (!parent->segments) {
		if (!parent->follow.segment && get(fragment, len))
			parent->follow.segment = 1;
		parent->segments = parent->follow.segment;
	}
	return ++parent->segments;
}

/* What is made from an skb or frame that is followed. */
static __always_inline void inherit(struct followed *child, const struct followed *f)
{
	child->follow.packet = f->follow.packet;
	child->follow.instance = new_id();
	child->follow.parent_packet = f->follow.packet;
	child->follow.parent = f->follow.instance;
	child->follow.transmission = f->follow.transmission;
	child->follow.segment = f->follow.segment;
}

/* An skb that is not known: whether a frame of XDP that is followed became it. */
static __always_inline bool was_frame(__u64 skb, __u64 head)
{
	struct followed *f = may_be_followed(head) ? find_followed(head) : 0;
	struct followed child = {};

	if (!f || !(f->state & IS_FRAME))
		return false;
	inherit(&child, f);
	if (f->follow.relation) /* no event was of the frame */
		child.follow.parent = f->follow.parent;
	child.follow.tracked_by = TRACKED_BY_XDP;
	child.follow.relation = RELATION_XDP;
	child.head = head;
	remove_followed(head);
	add_made(skb, &child);
	return true;
}

/* Whether the packet is followed. UNDECIDED: its skb is not known, see was_followed(). */
static __noinline int is_followed(struct sk_buff *skb)
{
	struct followed *f = find_followed((__u64)skb);
	struct counters *count;
	__u64 head = get_head(skb);

	if (!f)
		return UNDECIDED;
	if (f->state & NEWBORN) {
		be_born(skb, f, head);
		return 1;
	}
	if (f->head == head)
		return 1;
	if (f->state & HEAD_CHANGES) {
		f->state &= ~HEAD_CHANGES;
		f->head = head;
		return 1;
	}
	remove_followed((__u64)skb);
	count = find_counters();
	if (count)
		__sync_fetch_and_add(&count->ends_unseen, 1);
	return 0;
}

/* Whether the skb is not known because it has just ended, or because it was a frame of XDP until now. */
static __noinline bool was_followed(struct sk_buff *skb, __u32 code)
{
	__u32 role = role_of(code);
	__u64 head = get_head(skb);

	return has_just_ended((__u64)skb, head, role) ||
	       (config.follow_xdp && !is_after_end(role) && was_frame((__u64)skb, head));
}

/* A packet has matched the filters: follow it. */
static __noinline void begin_followed(struct sk_buff *skb)
{
	struct followed f = {};

	f.follow.packet = new_id();
	f.follow.instance = f.follow.packet;
	f.follow.tracked_by = TRACKED_BY_FILTER;
	f.head = get_head(skb);
	add_followed((__u64)skb, &f);
	RETURN_VOID;
}

/* One that ends is not followed any more. NULL: nor is there room for it. */
static __always_inline struct followed *find_or_begin(struct sk_buff *skb, __u32 role)
{
	struct followed *f = find_followed((__u64)skb);

	if (f || is_end(role) || is_after_end(role))
		return f;
	begin_followed(skb);
	return find_followed((__u64)skb);
}

/*
 * An skb that may have been merged was so if what comes next is its end, or if it ends in a way that
 * is for such skbs only.
 */
static __always_inline bool was_merged(struct followed *f, __u32 role)
{
	if (role == ROLE_STOLEN || role == ROLE_MERGED)
		return true;
	if (is_end(role))
		return config.sees_all && !(f->state & GOES_ON);
	if (role != ROLE_FREEING && role != ROLE_FREEING_REASON)
		f->state |= GOES_ON;
	return false;
}

/* What the event says, of an skb that is followed. */
static __always_inline void tell_followed(struct followed *f, __u32 role, struct follow *told)
{
	*told = f->follow;
	if (f->state & MERGING && !was_merged(f, role))
		told->relation = RELATION_NONE;
	else
		f->follow.relation = RELATION_NONE;
	if (told->tracked_by == TRACKED_BY_FILTER)
		f->follow.tracked_by = TRACKED_BY_SKB;
	told->ended = is_end(role);
}

/* Of one that was not, or is not any more. */
static __always_inline void tell_other(__u64 skb, __u32 role, struct follow *told)
{
	struct ended *last = find_ended();

	__builtin_memset(told, 0, sizeof(*told));
	if (!is_end(role) && !is_after_end(role))
		return; /* there was no room for it */
	if (last && last->skb == skb) {
		*told = last->was.follow;
		told->relation = RELATION_NONE;
	} else { /* it matches for the first time in its last moment */
		told->packet = new_id();
		told->instance = told->packet;
	}
	told->ended = 1;
}

/* The skb of a hit; NULL if it is not followed. */
static __always_inline struct followed *follow_skb(struct sk_buff *skb, __u32 role)
{
	struct followed *f = find_or_begin(skb, role);
	struct nearest *last;

	if (f && role == ROLE_TRANSMIT)
		f->follow.transmission++;
	if (f && config.follow_xdp && (last = find_nearest()))
		last->seen = (__u64)skb;
	return f;
}

/* Nobody asked for events of the function: what the next event is to tell stays. */
static __noinline void follow_silently(struct sk_buff *skb, __u32 code)
{
	struct followed *f = follow_skb(skb, role_of(code));

	if (f && f->state & MERGING)
		was_merged(f, role_of(code));
	RETURN_VOID;
}

/* Say which packet the event belongs to, which is followed from now on, if it was not before. */
static __noinline void follow(struct sk_buff *skb, __u32 code, struct follow *told)
{
	struct followed *f = follow_skb(skb, role_of(code));

	if (f)
		tell_followed(f, role_of(code), told);
	else
		tell_other((__u64)skb, role_of(code), told);
	RETURN_VOID;
}

/* The followed skb whose memory the frame is; NULL: none. */
static __always_inline struct followed *find_frames_skb(__u64 start)
{
	struct nearest *last = find_nearest();
	struct followed *f;

	if (!last)
		return 0;
	f = may_be_followed(last->made) ? find_followed(last->made) : 0;
	if (f && get_head((void *)last->made) == start)
		return f;
	f = may_be_followed(last->seen) ? find_followed(last->seen) : 0;
	return f && get_head((void *)last->seen) == start ? f : 0;
}

/*
 * A frame that was sent comes from another queue then, and its struct xdp_frame lies where its memory
 * begins. If not, that memory is used for another packet: whoever sends a frame frees it unseen.
 */
static __always_inline bool has_arrived(struct followed *f, struct xdp_buff *xdp, __u64 start)
{
	return f->state & IS_SENT && f->head != frame_queue(xdp) &&
	       load_u64(start + bpf_core_field_offset(struct xdp_frame, data)) ==
		       load_u64((__u64)xdp + XDP_OFFSET(data));
}

/*
 * A program of XDP begins with a frame. Returns whether that is followed, since it is the memory of
 * an skb, or was sent. If not, what was known of that memory is history.
 */
static __noinline bool is_frame_followed(struct xdp_buff *xdp)
{
	__u64 start = frame_start(xdp);
	struct followed *f;

	if (find_frames_skb(start))
		return true;
	f = may_be_followed(start) ? find_followed(start) : 0;
	if (!f)
		return false;
	if (has_arrived(f, xdp, start))
		return true;
	remove_followed(start);
	return false;
}

/* Generic XDP, whose frame stays an skb: it has the queues of the device, a driver has its own. */
static __always_inline bool is_generic(__u64 queue)
{
	struct net_device *dev = queue_device(queue);
	__u64 first = load_u64((__u64)dev + bpf_core_field_offset(struct net_device, _rx));

	return queue - first <
	       get(dev, num_rx_queues) * bpf_core_type_size(struct netdev_rx_queue);
}

/* Which packet the frame is, at the entry and at the exit of a program. */
static __noinline bool follow_frame(struct xdp_buff *xdp, bool is_entry, __u32 verdict,
				    struct follow *told)
{
	bool is_sent = !is_entry && (verdict == XDP_TX || verdict == XDP_REDIRECT);
	__u64 start = frame_start(xdp), queue = frame_queue(xdp);
	struct followed *f = find_frames_skb(start);
	struct followed frame = {};

	if (f) {
		*told = f->follow;
		told->relation = RELATION_NONE;
		told->tracked_by = TRACKED_BY_XDP;
		if (!is_sent || is_generic(queue))
			return true;
		inherit(&frame, f); /* the skb ends here, its memory goes on */
		frame.follow.tracked_by = TRACKED_BY_XDP;
		frame.follow.relation = RELATION_XDP;
		frame.state = IS_FRAME | IS_SENT;
		frame.head = queue;
		add_made(start, &frame);
		return true;
	}
	f = may_be_followed(start) ? find_followed(start) : 0;
	if (!f && is_entry) {
		frame.follow.packet = new_id();
		frame.follow.instance = frame.follow.packet;
		frame.state = IS_FRAME;
		add_followed(start, &frame);
		f = find_followed(start);
	}
	if (!f) {
		__builtin_memset(told, 0, sizeof(*told));
		return is_entry;
	}
	*told = f->follow;
	f->follow.tracked_by = TRACKED_BY_XDP;
	f->follow.relation = RELATION_NONE;
	f->state = is_sent ? IS_FRAME | IS_SENT : IS_FRAME;
	f->head = queue;
	if (!is_entry && (verdict == XDP_DROP || verdict == XDP_ABORTED)) {
		told->ended = 1;
		remove_followed(start);
	}
	return true;
}

/*
 * The end of a packet that was put together from fragments: those that are still skbs of their own
 * end with it, and their next events say so. Until then they may go on, where it is cut up again.
 */
static __noinline void end_fragments(__u64 whole, struct followed *to)
{
	__u64 info = get_head((void *)whole) + get((struct sk_buff *)whole, end);
	__u64 skb = load_u64(info + bpf_core_field_offset(struct skb_shared_info, frag_list));
	struct followed *f;

	for (int i = 0; i < MAX_FRAGMENTS && skb; i++) {
		f = may_be_followed(skb) ? find_followed(skb) : 0;
		if (f) {
			f->state &= ~MERGING;
			f->follow.relation = RELATION_MERGED;
			f->follow.parent_packet = to->follow.packet;
			f->follow.parent = to->follow.instance;
		}
		skb = load_u64(skb + SKB_OFFSET(next));
	}
	to->state &= ~IS_WHOLE;
	RETURN_VOID;
}

static __always_inline void end_followed(__u64 skb)
{
	struct followed *f = find_followed(skb);
	struct ended *last = find_ended();

	if (!f || !last)
		return;
	if (f->state & IS_WHOLE)
		end_fragments(skb, f);
	forget_ended(last);
	last->was = *f;
	if (!bpf_map_delete_elem(&followed, &skb))
		last->skb = skb; /* which its slot still counts */
}

static __always_inline void note_new(__u32 role, struct sk_buff *skb, __u64 new)
{
	struct followed *f = find_followed((__u64)skb);
	struct followed child = {};
	struct nearest *last;

	if (!f)
		return;
	if (f->state & NEWBORN)
		be_born(skb, f, get_head(skb));
	inherit(&child, f);
	child.follow.tracked_by = TRACKED_BY_RELATION;
	child.follow.relation = role == ROLE_FRAGMENT ? RELATION_FRAGMENT :
				role == ROLE_SPLIT    ? RELATION_SPLIT :
							RELATION_COPY;
	child.skb_parent = (__u64)skb;
	child.head = get_head(skb);
	if (role == ROLE_FRAGMENT)
		child.follow.segment = number_fragment(f, (void *)new);
	else if (role == ROLE_COPY && is_gso(skb, child.head))
		child.segments = ++f->segments; /* now: it may end before they are seen */
	child.state = NEWBORN;
	add_made(new, &child);
	if (config.follow_xdp && (last = find_nearest()))
		last->made = new;
}

static __always_inline void note_merge(__u64 into, __u64 skb)
{
	struct followed *to = find_followed(into), *f = find_followed(skb);

	if (!to || !f)
		return;
	f->state = (f->state | MERGING) & ~GOES_ON;
	f->follow.relation = RELATION_MERGED;
	f->follow.parent_packet = to->follow.packet;
	f->follow.parent = to->follow.instance;
}

static __always_inline void note_change(__u64 skb)
{
	struct followed *f = find_followed(skb);

	if (f)
		f->state |= HEAD_CHANGES;
}

/* What a function with a role does to its skbs, after its event. */
static __noinline void play_role(__u32 role, __u64 first, __u64 second)
{
	struct followed *f;
	struct ended *last;

	switch (role) {
	case ROLE_END:
	case ROLE_STOLEN:
		end_followed(first);
		break;
	case ROLE_END_SECOND:
		end_followed(second);
		break;
	case ROLE_LAST:
		end_followed(first);
		last = find_ended();
		if (last)
			forget_ended(last);
		break;
	case ROLE_HEAD:
		note_change(first);
		break;
	case ROLE_FREEING:
		f = find_followed(first);
		if (f && f->state & IS_WHOLE)
			end_fragments(first, f);
		break;
	case ROLE_REASSEMBLE:
		f = find_followed(second);
		if (f)
			f->state |= IS_WHOLE;
		break;
	case ROLE_SPLIT:
		note_new(role, (void *)first, second);
		break;
	case ROLE_COPY:
	case ROLE_FRAGMENT:
		note_new(role, (void *)second, first);
		break;
	case ROLE_MERGE:
		note_merge(first, second);
		break;
	}
	RETURN_VOID;
}

/* `code` is at least ROLE_CODE. Of the two arguments, those that are no skb count for nothing. */
static __always_inline void follow_role(__u32 code, __u64 first, __u64 second)
{
	__u32 role = role_of(code);

	if (may_be_followed(role < ROLE_SECOND ? first : second))
		play_role(role, first, second);
}

#endif /* __FOLLOW_BPF_H__ */
