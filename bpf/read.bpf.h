/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading kernel memory: directly where the kernel can cast an address to a type, which costs a few
 * instructions and no call; with a helper call elsewhere. Either way a bad address gives 0. The
 * choice is made at load time; the other branch is removed as dead code.
 */
#ifndef __READ_BPF_H__
#define __READ_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "config.bpf.h"
#include "pwru.h"

/*
 * Ends a void function that is not inlined: up to v6.1 the verifier looks at r0, which must not
 * happen to point to the stack.
 */
#define RETURN_VOID asm volatile("r0 = 0" ::: "r0")

/* An answer that is neither yes (1) nor no (0). */
#define UNDECIDED (-1)

/* Since commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), in v6.2. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define CAN_CAST (&bpf_rdonly_cast != 0)

#define cast(pointer)                                                                              \
	((typeof(pointer))bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(*(pointer))))

/* A field of what a kernel pointer points to. */
#define get(pointer, field)                                                                        \
	({                                                                                         \
		typeof(pointer) __p = (pointer);                                                   \
		typeof(__p->field) __v;                                                            \
		if (CAN_CAST)                                                                      \
			__v = cast(__p)->field;                                                    \
		else                                                                               \
			bpf_core_read(&__v, sizeof(__v), &__p->field);                             \
		__v;                                                                               \
	})

/*
 * With CAN_CAST: 126 bytes from `addr` on, to be loaded from in any size at any constant offset.
 * The type stands for its array of that many bytes, in which the verifier accepts every load
 * (btf_struct_walk()). The filters do the same: pwru/filter/load.py.
 */
#define SPAN_OFFSET 2 /* of __data in struct __kernel_sockaddr_storage, which is ABI */

static __always_inline const void *span(__u64 addr)
{
	return (void *)cast((struct __kernel_sockaddr_storage *)(addr - SPAN_OFFSET)) + SPAN_OFFSET;
}

static __noinline void copy_words(__u64 *to, __u32 size, __u64 from)
{
	for (__u32 i = 0; i < size / 8; i++)
		to[i] = *(__u64 *)span(from + 8 * i);
	RETURN_VOID;
}

/*
 * With a helper call. Returns whether it could be read; if not, the helper has filled `to` with
 * zeros. Do not branch on that only to clear it: the verifier would walk through all that follows
 * twice.
 *
 * Under a lockdown that denies the helper in words, which does not tell whether it could be read.
 * `to` then needs room for whole words.
 */
static __always_inline bool read_mem(void *to, __u32 size, __u64 from)
{
	if (CAN_CAST && config.no_helper) {
		copy_words(to, size + 7, from);
		return true;
	}
	return !bpf_probe_read_kernel(to, size, (void *)from);
}

/* A pointer, too, is loaded as a scalar: the verifier does not track it as a typed pointer. */
static __always_inline __u64 load_u64(__u64 addr)
{
	__u64 value;

	if (CAN_CAST)
		return *(__u64 *)span(addr);
	read_mem(&value, sizeof(value), addr);
	return value;
}

static __always_inline __u32 load_u32(__u64 addr)
{
	__u32 value;

	if (CAN_CAST)
		return *(__u32 *)span(addr);
	read_mem(&value, sizeof(value), addr);
	return value;
}

static __always_inline void load_words(__u64 addr, __u64 words[6])
{
	if (CAN_CAST) {
		const __u64 *from = span(addr);

		words[0] = from[0];
		words[1] = from[1];
		words[2] = from[2];
		words[3] = from[3];
		words[4] = from[4];
		words[5] = from[5];
	} else {
		read_mem(words, 48, addr);
	}
}

/* The 16 bytes of a name, which ends with a 0. */
static __always_inline void copy_name(char to[16], __u64 from)
{
	if (CAN_CAST) {
		const __u64 *words = span(from);

		((__u64 *)to)[0] = words[0];
		((__u64 *)to)[1] = words[1];
	} else {
		read_mem(to, 16, from);
	}
}

/*
 * An address as a number, which the verifier lets pass everywhere: a pointer that is negated is one
 * for it.
 */
static __always_inline __u64 scalar(__u64 address)
{
	asm volatile("%0 = -%0; %0 = -%0" : "+r"(address) : : "memory");
	return address;
}

/*
 * Have the verifier forget what it knows of a number: what follows is walked once then, instead of
 * once for each way in which the number came about.
 */
static __always_inline __u32 forget(__u32 number)
{
	return scalar(number);
}

#endif /* __READ_BPF_H__ */
