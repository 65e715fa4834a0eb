/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading kernel memory. Directly where the kernel can cast an address to a type, which costs a few instructions and no
 * call; with a helper call where it can't. Either way a bad address gives 0. Which one it is, is decided while the
 * program is loaded: the other is gone then.
 */
#ifndef __READ_BPF_H__
#define __READ_BPF_H__

/* Since commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), in v6.2. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define CAN_CAST (&bpf_rdonly_cast != 0)

#define cast(pointer)                                                                                \
	((typeof(pointer))bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(*(pointer))))

/* A field behind a kernel pointer. */
#define get(pointer, field)                                                                          \
	({                                                                                           \
		typeof(pointer) __p = (pointer);                                                     \
		typeof(__p->field) __v;                                                              \
		if (CAN_CAST)                                                                        \
			__v = cast(__p)->field;                                                      \
		else if (bpf_core_read(&__v, sizeof(__v), &__p->field))                              \
			__v = 0;                                                                     \
		__v;                                                                                 \
	})

/*
 * With CAN_CAST: 126 bytes from `at` on, to be loaded from in any size at any constant offset. The type stands for its
 * array of so many bytes, inside of which the verifier takes every load (btf_struct_walk()).
 */
#define SPAN_OFFSET 2 /* of __data in struct __kernel_sockaddr_storage, which is ABI */

static __always_inline const void *span(__u64 at)
{
	return (void *)cast((struct __kernel_sockaddr_storage *)(at - SPAN_OFFSET)) + SPAN_OFFSET;
}

/* Without CAN_CAST. What cannot be read is 0. */
static __always_inline bool copy(void *to, __u32 size, __u64 from)
{
	return !bpf_probe_read_kernel(to, size, (void *)from);
}

#endif /* __READ_BPF_H__ */
