/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an event says of an skb, its network device, its headers and the task.
 *
 * What fills a part of the record is a function of its own, not inlined: only so does the BTF of the object have the
 * structure, of which user space learns the layout there.
 */
#ifndef __CAPTURE_BPF_H__
#define __CAPTURE_BPF_H__

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define MAX_EXTENSION_HEADERS 8

/* At the end of a void function: up to v6.1 the verifier looks at r0, which must not happen to point to the stack. */
#define RETURN_VOID asm volatile("r0 = 0" ::: "r0")

#define SKB_OFFSET(field) bpf_core_field_offset(struct sk_buff, field)

#define MAC_UNSET 0xffff /* skb_mac_header_was_set() */
#define ETH_HLEN 14
#define MAX_TAGS 8 /* bytes of VLAN tags behind it */

/* Of network namespaces the first number, include/linux/ns/ns_common_types.h; before v6.18 it was 0xf0000000. */
#define FIRST_NETNS 0xeffffff0

const volatile struct config config SEC(".rodata.config") = {};

/* Where the headers of an skb are. Positions are offsets from head; 0 is never one. */
struct headers {
	__u64 head;
	__u32 tail; /* end of what can be read at head */
	__u32 mac; /* 0 or MAC_UNSET: none */
	__u32 network; /* 0: none */
};

/* A pointer as a number: loaded as what it is, the verifier may give it a type. */
static __always_inline __u64 load_u64(__u64 at)
{
	__u64 value = 0;

	if (CAN_CAST)
		return *(__u64 *)span(at);
	copy(&value, sizeof(value), at);
	return value;
}

/* As an offset from head. Rarely needed, and not inlined, so that it costs nobody else a register. */
static __noinline __u32 find_data(struct sk_buff *skb, __u64 head)
{
	return load_u64((__u64)skb + SKB_OFFSET(data)) - head;
}

static __always_inline void find_headers(struct sk_buff *skb, struct headers *h)
{
	if (CAN_CAST) {
		/* Three in a word are one load, if CONFIG_KCOV has nothing between; the verifier knows which way it is. */
		const void *from = span((__u64)skb + SKB_OFFSET(network_header));
		__u64 word = *(const __u64 *)from;

		if (SKB_OFFSET(mac_header) - SKB_OFFSET(network_header) == 2 &&
		    SKB_OFFSET(tail) - SKB_OFFSET(network_header) == 4) {
			h->network = (__u16)word;
			h->mac = (__u16)(word >> 16);
			h->tail = word >> 32;
		} else {
			h->network = (__u16)word;
			h->mac = cast(skb)->mac_header;
			h->tail = cast(skb)->tail;
		}
		h->head = *(const __u64 *)(from + (SKB_OFFSET(head) - SKB_OFFSET(network_header)));
	} else {
		/* These lie side by side: one call for all. */
		__u64 fields[5];
		__u32 first = SKB_OFFSET(network_header) & ~7;

		if (!copy(fields, SKB_OFFSET(head) + 8 - first, (__u64)skb + first))
			__builtin_memset(fields, 0, sizeof(fields));
		h->network = *(__u16 *)((void *)fields + (SKB_OFFSET(network_header) - first));
		h->mac = *(__u16 *)((void *)fields + (SKB_OFFSET(mac_header) - first));
		h->tail = *(__u32 *)((void *)fields + (SKB_OFFSET(tail) - first));
		h->head = *(__u64 *)((void *)fields + (SKB_OFFSET(head) - first));
	}
	/*
	 * A driver hands up a packet with the MAC header set (eth_type_trans()) and pulled, and no network header yet:
	 * there it begins at data.
	 */
	if (!h->network && h->mac && h->mac != MAC_UNSET)
		h->network = find_data(skb, h->head);
}

/* The first 48 bytes at a header. They are there to be read: behind the data of an skb is its skb_shared_info. */
static __always_inline void load_words(__u64 at, __u64 words[6])
{
	if (CAN_CAST) {
		const __u64 *direct = span(at);

		words[0] = direct[0];
		words[1] = direct[1];
		words[2] = direct[2];
		words[3] = direct[3];
		words[4] = direct[4];
		words[5] = direct[5];
	} else if (!copy(words, 48, at)) {
		__builtin_memset(words, 0, 48);
	}
}

static __always_inline __u32 load_u32(__u64 at)
{
	__u32 value = 0;

	if (CAN_CAST)
		return *(__u32 *)span(at);
	copy(&value, sizeof(value), at);
	return value;
}

static __always_inline void capture_ports(const struct headers *h, __u32 at, __u32 ports, struct tuple *tuple)
{
	if (tuple->l4_protocol != IPPROTO_TCP && tuple->l4_protocol != IPPROTO_UDP)
		return;
	if (at + sizeof(ports) > h->tail)
		return;
	tuple->sport = bpf_ntohs(ports & 0xffff);
	tuple->dport = bpf_ntohs(ports >> 16);
	tuple->has_ports = 1;
	if (config.tcp_flags && tuple->l4_protocol == IPPROTO_TCP && at + 14 <= h->tail)
		tuple->tcp_flags = load_u32(h->head + at + 12) >> 8;
}

static __always_inline void capture_ipv4(const struct headers *h, const __u64 words[6], struct tuple *tuple)
{
	const __u32 *ip = (const __u32 *)words;
	__u32 length = (ip[0] & 0xf) * 4;

	if (h->network + 20 > h->tail)
		return;
	tuple->ip_version = 4;
	tuple->l4_protocol = ip[2] >> 8;
	*(__u32 *)tuple->saddr = ip[3];
	*(__u32 *)tuple->daddr = ip[4];
	/* Only the first fragment has the ports. */
	if (!(ip[1] & bpf_htonl(0x1fff)))
		capture_ports(h, h->network + length, length == 20 ? ip[5] : load_u32(h->head + h->network + length),
			      tuple);
}

/* RFC 8200: extension headers stand between the IPv6 header and what the packet carries. */
static __always_inline void capture_ipv6(const struct headers *h, const __u64 words[6], struct tuple *tuple)
{
	__u32 at = h->network + 40;
	__u32 next = words[0] >> 48 & 0xff;
	__u32 here = words[5];

	if (at > h->tail)
		return;
	tuple->ip_version = 6;
	((__u64 *)tuple->saddr)[0] = words[1];
	((__u64 *)tuple->saddr)[1] = words[2];
	((__u64 *)tuple->daddr)[0] = words[3];
	((__u64 *)tuple->daddr)[1] = words[4];
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		tuple->l4_protocol = next;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_AH && next != IPPROTO_FRAGMENT) {
			capture_ports(h, at, here, tuple);
			return;
		}
		if (at + 4 > h->tail)
			return;
		if (next == IPPROTO_FRAGMENT) {
			if (here & bpf_htonl(0xfff8)) {
				tuple->l4_protocol = here;
				return;
			}
			at += 8;
		} else if (next == IPPROTO_AH) {
			at += ((here >> 8 & 0xff) + 2) * 4; /* RFC 4302 counts in 4 bytes */
		} else {
			at += ((here >> 8 & 0xff) + 1) * 8;
		}
		next = here & 0xff;
		here = load_u32(h->head + at);
	}
}

static __always_inline void capture_ip(const struct headers *h, struct tuple *tuple)
{
	__u64 words[6];
	__u32 version;

	if (!h->network || h->network >= h->tail)
		return;
	load_words(h->head + h->network, words);
	version = words[0] >> 4 & 0xf;
	if (version == 4)
		capture_ipv4(h, words, tuple);
	else if (version == 6)
		capture_ipv6(h, words, tuple);
}

/* A driver hands up a packet with the network header at its first tag. Behind that, if it is not IP: nowhere. */
static __always_inline void skip_tag(struct headers *h)
{
	__u16 protocol;

	if (h->network - h->mac != ETH_HLEN)
		return;
	protocol = bpf_ntohs(load_u32(h->head + h->network) >> 16);
	h->network = protocol == ETH_P_IP || protocol == ETH_P_IPV6 ? h->network + 4 : 0;
}

static __always_inline void find_tuple(struct sk_buff *skb, __u16 protocol, struct tuple *tuple)
{
	struct headers h;

	/*
	 * The version nibble alone is no proof: other protocols have what they like there. A packet on its way out has
	 * no protocol yet, or that of a tag in front.
	 */
	switch (protocol) {
	case ETH_P_IP:
	case ETH_P_IPV6:
	case ETH_P_8021Q:
	case ETH_P_8021AD:
	case 0:
		break;
	default:
		return;
	}
	find_headers(skb, &h);
	if (protocol == ETH_P_8021Q || protocol == ETH_P_8021AD)
		skip_tag(&h);
	capture_ip(&h, tuple);
}

static __noinline void capture_tuple(struct sk_buff *skb, __u16 protocol, struct tuple *tuple)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	find_tuple(skb, protocol, tuple);
	RETURN_VOID;
}

/*
 * Of what is inside a tunnel's headers: they have been put in front of it, and are not pulled yet. skb->encapsulation does
 * not say so: it is 0 where no checksum is left to the device (iptunnel_handle_offloads()). An inner header that was
 * never set is not behind the other: skb_headers_offset_update() moves both.
 */
static __noinline void capture_tunnel(struct sk_buff *skb, struct tuple *tuple)
{
	__u32 inner = get(skb, inner_network_header);
	struct headers h;

	__builtin_memset(tuple, 0, sizeof(*tuple));
	find_headers(skb, &h);
	if (inner > h.network) {
		h.network = inner;
		capture_ip(&h, tuple);
	}
	RETURN_VOID;
}

static __noinline void capture_cb(struct sk_buff *skb, struct cb *cb)
{
	__u32 at = SKB_OFFSET(cb) + bpf_core_field_offset(struct qdisc_skb_cb, data);

	if (!copy(cb, sizeof(*cb), (__u64)skb + at))
		__builtin_memset(cb, 0, sizeof(*cb));
	RETURN_VOID;
}

/*
 * NULL if there is none. While a packet waits in a UDP socket its dev is dev_scratch, some numbers: such an address would
 * be read as 0, too, but by way of a fault.
 */
static __always_inline struct net_device *get_device(struct sk_buff *skb)
{
	__u64 dev = load_u64((__u64)skb + SKB_OFFSET(dev));

	return (__s64)dev < 0 ? (void *)dev : 0;
}

static __always_inline __u32 get_inum(struct net *net)
{
	return net ? get(net, ns.inum) : 0;
}

/*
 * A packet on its way out has no device before it is routed, but a socket. In TCP's queues that are trees, what lies in
 * the place of dev is another skb, and stays there when the packet is taken out: what is in no namespace is no device.
 */
static __always_inline __u32 find_netns(struct sk_buff *skb, struct net_device **dev)
{
	__u32 inum = *dev ? get_inum(get(*dev, nd_net.net)) : 0;
	struct sock *sk;

	if (inum >= FIRST_NETNS)
		return inum;
	*dev = 0;
	sk = get(skb, sk);
	return sk ? get_inum(get(sk, __sk_common.skc_net.net)) : 0;
}

/* Bytes of a name in the kernel, which ends with a 0. */
static __always_inline void copy_name(char to[16], __u64 from)
{
	if (CAN_CAST) {
		const __u64 *direct = span(from);

		((__u64 *)to)[0] = direct[0];
		((__u64 *)to)[1] = direct[1];
	} else if (!copy(to, 16, from)) {
		__builtin_memset(to, 0, 16);
	}
}

static __always_inline void capture_device(struct net_device *dev, struct meta *meta)
{
	if (!dev) {
		meta->ifindex = meta->mtu = 0;
		__builtin_memset(meta->ifname, 0, sizeof(meta->ifname));
		return;
	}
	meta->ifindex = get(dev, ifindex);
	meta->mtu = get(dev, mtu);
	copy_name(meta->ifname, (__u64)dev + bpf_core_field_offset(struct net_device, name));
}

struct skb_fields {
	struct net_device *dev;
	__u32 mark;
	__u32 len;
	__be16 protocol;
};

static __always_inline void load_fields(struct sk_buff *skb, struct skb_fields *fields)
{
	if (CAN_CAST) {
		fields->dev = get_device(skb);
		fields->mark = get(skb, mark);
		fields->len = get(skb, len);
		fields->protocol = get(skb, protocol);
	} else {
		/* One call for all and for what lies between them costs less than one for each. */
		__u64 words[24];
		__u32 first = SKB_OFFSET(dev);

		if (!copy(words, SKB_OFFSET(protocol) + 2 - first, (__u64)skb + first))
			__builtin_memset(words, 0, sizeof(words));
		fields->dev = *(void **)words;
		if ((__s64)fields->dev >= 0)
			fields->dev = 0;
		fields->mark = *(__u32 *)((void *)words + (SKB_OFFSET(mark) - first));
		fields->len = *(__u32 *)((void *)words + (SKB_OFFSET(len) - first));
		fields->protocol = *(__be16 *)((void *)words + (SKB_OFFSET(protocol) - first));
	}
}

static __noinline void capture_meta(struct sk_buff *skb, struct meta *meta)
{
	struct skb_fields fields;

	load_fields(skb, &fields);
	meta->netns = find_netns(skb, &fields.dev);
	meta->mark = fields.mark;
	meta->len = fields.len;
	meta->protocol = bpf_ntohs(fields.protocol);
	meta->padding = 0;
	capture_device(fields.dev, meta);
	RETURN_VOID;
}

static __always_inline void capture_task(struct task *task)
{
	task->cpu = bpf_get_smp_processor_id();
	if (CAN_CAST) {
		struct task_struct *current = (void *)bpf_get_current_task();

		task->pid = get(current, tgid);
		copy_name(task->comm, (__u64)current + bpf_core_field_offset(struct task_struct, comm));
	} else {
		task->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(task->comm, sizeof(task->comm));
	}
}

#endif /* __CAPTURE_BPF_H__ */
