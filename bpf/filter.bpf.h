/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filters of which only user space knows the code: stubs that pwru/filter/splice.py replaces in the object file.
 *
 * filter_packet() is the packet filter, a translated pcap filter (pwru/filter/packet/). It takes the
 * address of an skb. Non-zero: the packet matches, as pcap_offline_filter(3PCAP) says.
 *
 * filter_tagged() is the same for an skb with a VLAN tag of its own, which the packet's bytes do not have.
 *
 * filter_inner_l2() and filter_inner_l3() are those for what an encapsulated packet carries: --filter-tunnel-pcap-l2 and
 * -l3. A packet that has no such header passes.
 *
 * filter_skb() is the condition on fields of the skb (pwru/filter/expression/). Non-zero: the skb matches. skb_value0()
 * and so on are values of fields that are to be printed: --output-skb-metadata.
 *
 * A stub is a global function with a scalar argument, so that the verifier checks it once and on its own. Its result
 * comes out of an asm statement, or clang would take a stub for its only known value and drop the calls.
 * What is in its place needs up to 224 bytes of stack.
 */
#ifndef __FILTER_BPF_H__
#define __FILTER_BPF_H__

#define STUB(type, name)                                                                             \
	__noinline type name(__u64 skb)                                                              \
	{                                                                                            \
		type result;                                                                         \
                                                                                                     \
		asm volatile("%0 = 1" : "=r"(result) : "r"(skb));                                    \
		return result;                                                                       \
	}

STUB(int, filter_packet)
STUB(int, filter_tagged)
STUB(int, filter_inner_l2)
STUB(int, filter_inner_l3)
STUB(int, filter_skb)
STUB(__u64, skb_value0)
STUB(__u64, skb_value1)
STUB(__u64, skb_value2)
STUB(__u64, skb_value3)

#endif /* __FILTER_BPF_H__ */
