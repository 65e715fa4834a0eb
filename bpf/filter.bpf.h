/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filters whose code only user space knows: stubs that pwru/filter/splice.py replaces in the
 * object. Each takes the address of an skb, those of XDP of a struct xdp_buff; those about a part of
 * a packet where that begins, how many bytes of it are there, and how long it is. What replaces a
 * stub needs up to 192 bytes of stack.
 *
 * filter_packet()    the packet filter, a translated pcap filter (pwru/filter/packet/). Positive: the
 *                    packet matches; IF_IP: if its network header is one of IP, which the caller
 *                    finds out; BEYOND: it looks at bytes that the skb does not have at head;
 *                    negative: it has no headers yet
 * filter_tagged()    the same for an skb with a VLAN tag that the packet's bytes do not have
 * filter_inner_l2()  the same for what an encapsulated packet carries, from its link-layer header on
 * filter_inner_l3()  or from its network header on
 * filter_whole_l2()  the packet filter on a packet of which filter_packet() could not see enough
 * filter_whole_l3()  the same without a link-layer header
 * filter_xdp()       the packet filter for what begins with a link-layer header
 * filter_skb()       the condition on fields of the skb (pwru/filter/expression/). Non-zero: match
 * filter_xdp_expr()  the same for the fields of the frame
 * skb_value0() ...   values of fields that are printed
 * xdp_value0() ...   those of the frame
 *
 * A stub is a global function with a scalar argument, so that the verifier checks it once and on
 * its own. Its result comes from an asm statement, or clang would take it for a constant and drop
 * the calls.
 */
#ifndef __FILTER_BPF_H__
#define __FILTER_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define IF_IP 2
#define BEYOND 3

#define STUB(type, name)                                                                           \
	__noinline type name(__u64 skb)                                                            \
	{                                                                                          \
		type result;                                                                       \
                                                                                                   \
		asm volatile("%0 = 1" : "=r"(result) : "r"(skb));                                  \
		return result;                                                                     \
	}

#define STUB_OF_BYTES(name)                                                                        \
	__noinline int name(__u64 start, __u64 captured, __u64 length)                             \
	{                                                                                          \
		int result;                                                                        \
                                                                                                   \
		asm volatile("%0 = 1" : "=r"(result) : "r"(start), "r"(captured), "r"(length));    \
		return result;                                                                     \
	}

STUB(int, filter_packet)
STUB(int, filter_tagged)
STUB_OF_BYTES(filter_inner_l2)
STUB_OF_BYTES(filter_inner_l3)
STUB_OF_BYTES(filter_whole_l2)
STUB_OF_BYTES(filter_whole_l3)
STUB(int, filter_skb)
STUB(int, filter_xdp)
STUB(int, filter_xdp_expr)
STUB(__u64, skb_value0)
STUB(__u64, skb_value1)
STUB(__u64, skb_value2)
STUB(__u64, skb_value3)
STUB(__u64, xdp_value0)
STUB(__u64, xdp_value1)
STUB(__u64, xdp_value2)
STUB(__u64, xdp_value3)

#endif /* __FILTER_BPF_H__ */
