/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Filters of which only user space knows the code: stubs that pwru/filter/splice.py replaces in the object file.
 *
 * filter_l2() and filter_l3() are the packet filter, a translated pcap filter (pwru/filter/translate.py). `data` is the
 * kernel address of a header (Ethernet for l2, IP for l3), `caplen` how many bytes may be loaded from there, `len` the
 * packet's length from there. Non-zero: the packet matches, as pcap_offline_filter(3PCAP) says.
 *
 * filter_skb() is the condition on fields of the skb, whose address it takes (pwru/filter/expression.py). Non-zero: the
 * skb matches.
 *
 * A stub is a global function with scalar arguments, so that the verifier checks it once and on its own. Its result
 * comes out of an asm statement, or clang would take a stub for its only known value and drop the calls.
 * What is in its place needs up to 224 bytes of stack.
 */
#ifndef __FILTER_BPF_H__
#define __FILTER_BPF_H__

#define FILTER_STUB(name)                                                                            \
	__noinline int name(__u64 data, __u32 caplen, __u32 len)                                     \
	{                                                                                            \
		int match;                                                                           \
                                                                                                     \
		asm volatile("%0 = 1" : "=r"(match) : "r"(data), "r"(caplen), "r"(len));             \
		return match;                                                                        \
	}

FILTER_STUB(filter_l2)
FILTER_STUB(filter_l3)

__noinline int filter_skb(__u64 skb)
{
	int match;

	asm volatile("%0 = 1" : "=r"(match) : "r"(skb));
	return match;
}

#endif /* __FILTER_BPF_H__ */
