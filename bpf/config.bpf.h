/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The configuration of a run. User space sets it before the load, so that the verifier knows its
 * values and removes what the run does not need.
 */
#ifndef __CONFIG_BPF_H__
#define __CONFIG_BPF_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "pwru.h"

/*
 * Not to be read through memcmp() or a cast that drops volatile: clang would take its initial
 * zeros.
 */
const volatile struct config config SEC(".rodata.config") = {};

#endif /* __CONFIG_BPF_H__ */
