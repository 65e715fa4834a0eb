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
#include "match.bpf.h"
#include "pwru.h"

/*
 * The order of things: the filters, then the event of a packet that matches. `event` is an
 * expression that makes a struct hit and passes it to emit(). It is not evaluated for other
 * packets, so what only an event needs costs them nothing.
 */
#define HANDLE(skb, event) ((skb) && matches(skb) ? (event) : 0)

/* Whether struct hit needs its location. */
static __always_inline bool wants_location(void)
{
	return config.at[PART_LOCATION] || config.at[PART_STACK];
}

#endif /* __HIT_BPF_H__ */
