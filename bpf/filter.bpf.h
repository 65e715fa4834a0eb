/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filters of which only user space knows the code: stubs that pwru/filter/splice.py replaces in the object file.
 *
 * filter_packet() is the packet filter, a translated pcap filter (pwru/filter/packet.py, translate.py). It takes the
 * address of an skb. Non-zero: the packet matches, as pcap_offline_filter(3PCAP) says.
 *
 * filter_tagged() is the same for an skb with a VLAN tag of its own, which the packet's bytes do not have.
 *
 * filter_skb() is the condition on fields of the skb (pwru/filter/expression.py). Non-zero: the
 * skb matches.
 *
 * A stub is a global function with a scalar argument, so that the verifier checks it once and on its own. Its result
 * comes out of an asm statement, or clang would take a stub for its only known value and drop the calls.
 * What is in its place needs up to 224 bytes of stack.
 */
#ifndef __FILTER_BPF_H__
#define __FILTER_BPF_H__

#define FILTER_STUB(name)                                                                            \
	__noinline int name(__u64 skb)                                                               \
	{                                                                                            \
		int match;                                                                           \
                                                                                                     \
		asm volatile("%0 = 1" : "=r"(match) : "r"(skb));                                     \
		return match;                                                                        \
	}

FILTER_STUB(filter_packet)
FILTER_STUB(filter_tagged)
FILTER_STUB(filter_skb)

/* The same for the values of fields that are to be printed: --output-skb-metadata. */
#define VALUE_STUB(name)                                                                             \
	__noinline __u64 name(__u64 skb)                                                             \
	{                                                                                            \
		__u64 value;                                                                         \
                                                                                                     \
		asm volatile("%0 = 0" : "=r"(value) : "r"(skb));                                     \
		return value;                                                                        \
	}

VALUE_STUB(skb_value0)
VALUE_STUB(skb_value1)
VALUE_STUB(skb_value2)
VALUE_STUB(skb_value3)

#endif /* __FILTER_BPF_H__ */
