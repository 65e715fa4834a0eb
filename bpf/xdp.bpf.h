/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets that are no skb yet: struct xdp_buff as the carrier of a packet. It begins with its
 * Ethernet header, and has a device, and nothing else.
 */
#ifndef __XDP_BPF_H__
#define __XDP_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "pwru.h"
#include "carrier.bpf.h"
#include "config.bpf.h"
#include "details.bpf.h"
#include "emit.bpf.h"
#include "filter.bpf.h"
#include "follow.bpf.h"
#include "match.bpf.h"
#include "meta.bpf.h"
#include "origin.bpf.h"
#include "read.bpf.h"
#include "tuple.bpf.h"

#define XDP_MAC 64 /* of `head` no more is asked than that no header is at offset 0 */

static __always_inline struct net_device *xdp_device(struct xdp_buff *xdp)
{
	return queue_device(frame_queue(xdp));
}

/* There is no skb: what is asked of it is 0. */
static __noinline void find_xdp_headers(struct xdp_buff *xdp, struct headers *h)
{
	__u64 data = load_u64((__u64)xdp + XDP_OFFSET(data));
	__u64 end = load_u64((__u64)xdp + XDP_OFFSET(data_end));

	h->skb = 0;
	h->head = data - XDP_MAC;
	h->mac = XDP_MAC;
	h->network = XDP_MAC + ETH_HLEN;
	h->tail = forget(end - data + XDP_MAC);
	h->protocol = load_u32(data + ETH_HLEN - 2);
	RETURN_VOID;
}

static __noinline bool xdp_meta_matches(struct xdp_buff *xdp)
{
	struct net_device *dev = xdp_device(xdp);

	if (config.mark)
		return false;
	if (config.netns && device_netns(dev) != config.netns)
		return false;
	return !config.ifindex || get(dev, ifindex) == config.ifindex;
}

static __noinline bool xdp_inner_matches(struct xdp_buff *xdp, __u32 filters)
{
	struct headers h;

	find_xdp_headers(xdp, &h);
	return tunnel_matches(&h, filters);
}

/* All filters but those that are about an skb: they let it pass. */
static __noinline bool xdp_matches(struct xdp_buff *xdp)
{
	__u32 filters = config.filters;

	if (filters & FILTER_TASK && !task_matches())
		return false;
	if (filters & FILTER_META && !xdp_meta_matches(xdp))
		return false;
	if (config.xdp_expr && !filter_xdp_expr((__u64)xdp))
		return false;
	if (filters & FILTER_PACKET && filter_xdp((__u64)xdp) <= 0)
		return false;
	return !(filters & (FILTER_INNER_L2 | FILTER_INNER_L3)) || xdp_inner_matches(xdp, filters);
}

static __noinline void capture_xdp_meta(struct xdp_buff *xdp, const struct headers *h,
					struct meta *meta)
{
	struct net_device *dev = xdp_device(xdp);
	struct fields fields = { .len = h->tail - h->mac, .protocol = h->protocol };
	struct origin origin = { .dev = dev, .netns = device_netns(dev) };

	if (dev)
		origin.ifindex = get(dev, ifindex);
	fill_meta(&fields, &origin, meta);
	RETURN_VOID;
}

/* Nothing can be read there. */
static __always_inline void fill_with_zeros(void *to, __u32 size)
{
	read_mem(to, size, 0);
}

static __noinline void capture_xdp_values(struct xdp_buff *xdp, __u64 *values)
{
	values[0] = xdp_value0((__u64)xdp);
	values[1] = xdp_value1((__u64)xdp);
	values[2] = xdp_value2((__u64)xdp);
	values[3] = xdp_value3((__u64)xdp);
	values[MAX_VALUES] = 1;
	RETURN_VOID;
}

/* What only an skb has is 0. `call`: see emit_hit(). */
static __always_inline void emit_frame(const struct hit *hit, const struct follow *told,
				       __u64 call)
{
	struct xdp_buff *xdp = (void *)hit->skb;
	struct event *event = begin_event(true);
	struct headers h;

	if (!event)
		return;
	event->skb = (__u64)xdp;
	event->site.addr = hit->addr;
	event->site.reason = hit->reason;
	event->site.padding = 0;
	capture_task(&event->task);
	find_xdp_headers(xdp, &h);
	PART(LOCATION, *(__u64 *)to = hit->location);
	PART(META, capture_xdp_meta(xdp, &h, to));
	PART(CB, __builtin_memset(to, 0, sizeof(struct cb)));
	PART(TUPLE, capture_tuple(&h, to));
	PART(TUNNEL, capture_tunnel(&h, to));
	if (told)
		PART(FOLLOW, *(struct follow *)to = *told);
	PART(TIME, *(__u64 *)to = bpf_ktime_get_ns());
	PART(VALUES, capture_xdp_values(xdp, to));
	PART(STACK, capture_stack(hit->ctx, hit->location, to));
	PART(SKB, fill_with_zeros(to, config.size[PART_SKB]));
	PART(SHARED_INFO, fill_with_zeros(to, config.size[PART_SHARED_INFO]));
	PART(PAYLOAD, capture_payload(&h, XDP_MAC, h.tail - XDP_MAC, to));
	if (told)
		PART(BPFMAP, capture_bpfmap(hit->ctx, call, to));
	end_event(event, true);
}

/*
 * An exit belongs to a packet that was followed at the entry, whatever the program made of it.
 */
static __always_inline int emit_xdp(const struct hit *hit, __u64 slot, bool is_entry,
				    bool following)
{
	struct xdp_buff *xdp = (void *)hit->skb;
	struct follow told;

	if (following && !follow_frame(xdp, is_entry, hit->reason, &told))
		return 0;
	if (following && config.by_stack && slot && told.packet)
		enter_frame(slot, hit->skb, &told, FRAME_XDP);
	emit_frame(hit, following ? &told : 0, 0);
	return 1;
}

/* What a program calls, whose frame on the stack this is. */
static __noinline int emit_xdp_call(const struct hit *hit, const struct frame *frame,
				    __u64 call)
{
	struct follow told;

	tell_by_stack(frame, false, &told);
	emit_frame(hit, &told, call);
	return 0;
}

/* What is followed at the entry is followed at the exit: see follow_frame(). */
static __always_inline bool xdp_is_traced(struct xdp_buff *xdp, bool is_entry, bool following)
{
	if (!following)
		return xdp_matches(xdp);
	if (!is_entry)
		return true;
	return is_frame_followed(xdp) || xdp_matches(xdp);
}

#endif /* __XDP_BPF_H__ */
