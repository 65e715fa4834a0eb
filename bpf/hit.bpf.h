/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happens at a hit, for every way to attach.
 */
#ifndef __HIT_BPF_H__
#define __HIT_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "config.bpf.h"
#include "emit.bpf.h"
#include "follow.bpf.h"
#include "match.bpf.h"
#include "origin.bpf.h"
#include "pwru.h"

static __always_inline bool may_be_known(struct sk_buff *skb)
{
	if (may_be_followed((__u64)skb))
		return true;
	return config.follow_xdp && may_be_followed(get_head(skb));
}

/* Few need `code` for that. */
#define IS_KNOWN(skb, code)                                                                        \
	({                                                                                         \
		int known = may_be_known(skb) ? is_followed(skb) : 0;                              \
                                                                                                   \
		known == UNDECIDED ? was_followed(skb, code) : known;                              \
	})

#define OWN_SOCK_OR(skb, arg)                                                                      \
	({                                                                                         \
		struct sock *own = own_sock(skb);                                                  \
                                                                                                   \
		own ? own : (arg);                                                                 \
	})

/*
 * The order of things: whether the packet is followed, else the filters, then the event of a packet
 * that matches. `sk` is the socket among the arguments, which few packets need. `event` is an
 * expression that makes a struct hit and passes it to emit(). Both, and `code`, are evaluated only
 * when they are needed, so that they cost other packets nothing. The value is that of `event`, or 0.
 */
#define HANDLE(skb, sk, following, code, event)                                                    \
	({                                                                                         \
		int verdict = !(skb)				  ? 0 :                            \
			      following && IS_KNOWN(skb, code) ? 1 :                               \
								 matches(skb);                     \
                                                                                                   \
		verdict && (verdict > 0 || sock_matches(skb, OWN_SOCK_OR(skb, sk))) ? (event) : 0; \
	})

/* Whether struct hit needs its location. */
static __always_inline bool wants_location(void)
{
	return config.at[PART_LOCATION] || config.at[PART_STACK];
}

#endif /* __HIT_BPF_H__ */
