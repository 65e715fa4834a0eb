// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs of XDP, for tests: each has its own verdict on IPv4, and lets all else pass.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define BPF_MAP_TYPE_DEVMAP 14
#define ETH_HLEN 14
#define ETH_P_IP 0x0800

/* include/uapi/linux/bpf.h */
struct xdp_md {
	__u32 data;
	__u32 data_end;
};

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

static __always_inline int on_ip(struct xdp_md *xdp, int verdict)
{
	void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;

	if (data + ETH_HLEN > end || *(__be16 *)(data + ETH_HLEN - 2) != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return verdict;
}

SEC("xdp")
int passes_every_frame_on(struct xdp_md *xdp)
{
	return XDP_PASS;
}

SEC("xdp")
int drops_frames(struct xdp_md *xdp)
{
	return on_ip(xdp, XDP_DROP);
}

SEC("xdp")
int returns_frames(struct xdp_md *xdp)
{
	return on_ip(xdp, XDP_TX);
}

SEC("xdp")
int sends_frames_elsewhere(struct xdp_md *xdp)
{
	return on_ip(xdp, XDP_REDIRECT) == XDP_PASS ? XDP_PASS : bpf_redirect_map(&devices, 0, 0);
}
