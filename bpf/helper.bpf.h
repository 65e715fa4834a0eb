/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What BPF programs call: helpers, and operations of maps with key and value.
 */
#ifndef __HELPER_BPF_H__
#define __HELPER_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "account.bpf.h"
#include "follow.bpf.h"
#include "pwru.h"
#include "read.bpf.h"

/*
 * The context of a call has the arguments, and then what it returned; `args` says which is which, see
 * on_helper(). It is read each time: the stack has no room for all of it.
 */
static __always_inline __u64 call_word(__u64 *ctx, __u32 index)
{
	return load_u64(scalar((__u64)ctx) + 8 * index);
}

/* Our programs use a hash, too: a call for that says nothing about a packet. */
static __always_inline bool is_own_map(__u64 *ctx, __u64 args)
{
	return args & HELPER_MAP && call_word(ctx, 0) == scalar((__u64)&followed);
}

/* 0: it has no such argument. `index`: from 0, or NO_ARG. */
static __always_inline __u64 call_arg(__u64 *ctx, __u32 index)
{
	return index == NO_ARG ? 0 : call_word(ctx, index);
}

static __always_inline __u64 returned(__u64 *ctx, __u64 args)
{
	return call_word(ctx, args >> 8 & 15);
}

/*
 * What a per-CPU pointer points to on this CPU: it is as far away as the value of our own per-CPU
 * map is from the pointer in that map.
 */
static __always_inline __u64 on_this_cpu(__u64 pointer)
{
	__u64 own = scalar((__u64)&counters) + bpf_core_field_offset(struct bpf_array, pptrs);

	return pointer + scalar((__u64)find_counters()) - load_u64(own);
}

static __always_inline bool is_percpu_hash(__u32 type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

/* What is looked up in these is no value, but an object of the kernel. */
static __always_inline bool holds_objects(__u32 type)
{
	return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS ||
	       type == BPF_MAP_TYPE_SOCKMAP || type == BPF_MAP_TYPE_SOCKHASH ||
	       type == BPF_MAP_TYPE_XSKMAP || type == BPF_MAP_TYPE_REUSEPORT_SOCKARRAY;
}

/*
 * The address of the value, which may be that of an element: struct htab_elem has the key, rounded
 * up to 8 bytes, and then the value or, in a per-CPU map, a pointer to it.
 */
static __always_inline __u64 looked_up(__u64 *ctx, __u64 args, __u32 type, __u32 key_size)
{
	__u64 value = returned(ctx, args);

	if (!(args & HELPER_ELEMENT) || !value)
		return value;
	value += bpf_core_field_offset(struct htab_elem, key) + ((key_size + 7) & ~7);
	return is_percpu_hash(type) ? on_this_cpu(load_u64(value)) : value;
}

/* Returns enum map_value, and where it is. */
static __noinline __u32 find_value(__u64 *ctx, __u64 args, struct bpf_map *map, __u64 *value)
{
	__u32 type = get(map, map_type);

	*value = 0;
	if (args & HELPER_LOOKUP) {
		*value = looked_up(ctx, args, type, get(map, key_size));
		if (!*value)
			return MAP_VALUE_MISSING;
		return holds_objects(type) ? MAP_VALUE_NONE : MAP_VALUE_KNOWN;
	}
	if (args & HELPER_TAKES_OUT && returned(ctx, args))
		return MAP_VALUE_MISSING;
	*value = call_arg(ctx, args >> 4 & 15);
	return *value ? MAP_VALUE_KNOWN : MAP_VALUE_NONE;
}

static __always_inline void copy_up_to(void *to, __u32 size, __u32 most, __u64 from)
{
	if (size > most)
		size = most;
	barrier_var(size);
	if (size <= most)
		read_mem(to, size, from);
}

static __noinline void capture_call(__u64 *ctx, __u64 args, struct bpfmap *to)
{
	struct bpf_map *map = args & HELPER_MAP ? (void *)call_word(ctx, 0) : 0;
	__u64 key, value;

	to->id = 0;
	if (!map)
		goto out;
	to->id = get(map, id);
	to->key_size = get(map, key_size);
	to->value_size = get(map, value_size);
	copy_name(to->name, (__u64)map + bpf_core_field_offset(struct bpf_map, name));
	key = call_arg(ctx, args & 15);
	to->has_key = (args & 15) != NO_ARG;
	to->padding = 0;
	if (args & HELPER_KEY_ITSELF)
		*(__u64 *)to->key = key;
	else if (key)
		copy_up_to(to->key, to->key_size, MAP_KEY_BYTES, key);
	to->value_is = find_value(ctx, args, map, &value);
	if (to->value_is == MAP_VALUE_KNOWN)
		copy_up_to(to->value, to->value_size, MAP_VALUE_BYTES, value);
out:
	RETURN_VOID;
}

/* `args` is known to be 0 when the programs are compiled, except for on_helper(). */
static __always_inline void capture_bpfmap(__u64 *ctx, __u64 args, struct bpfmap *to)
{
	if (args)
		capture_call(ctx, args, to);
	else
		to->id = 0;
}

#endif /* __HELPER_BPF_H__ */
