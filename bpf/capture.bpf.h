/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading kernel memory: the fields of an skb, its network device and its headers, into an event.
 */
#ifndef __CAPTURE_BPF_H__
#define __CAPTURE_BPF_H__

#define ETH_HLEN 14
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

/* Since commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), in v6.2. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * A field behind a kernel pointer: loaded directly where the kernel can cast to a type, by a helper call where it
 * can't. Either way a bad pointer gives 0. The branch is decided while the program is loaded.
 */
#define get(pointer, field)                                                                          \
	({                                                                                           \
		typeof(pointer) __p = (pointer);                                                     \
		typeof(__p->field) __v;                                                              \
		if (&bpf_rdonly_cast)                                                                \
			__v = ((typeof(__p))bpf_rdonly_cast(__p, bpf_core_type_id_kernel(*__p)))->field; \
		else if (bpf_core_read(&__v, sizeof(__v), &__p->field))                              \
			__v = 0;                                                                     \
		__v;                                                                                 \
	})

/*
 * A pointer field as a number. Loaded as what it is, the verifier would give it a type and refuse to pass it on as the
 * scalar that a filter takes. struct timespec64 stands for any that begins with 64 bits.
 */
#define get_address(pointer, field)                                                                  \
	({                                                                                           \
		__u64 __at = (__u64)&(pointer)->field;                                               \
		get((struct timespec64 *)__at, tv_sec);                                              \
	})

/* Where the headers of an skb are. Positions are offsets from head; 0 is never one. */
struct headers {
	__u64 head;
	__u32 data;
	__u32 tail; /* end of what can be read at head */
	__u32 mac; /* 0: none */
	__u32 network; /* 0: none */
};

static __always_inline void find_headers(struct sk_buff *skb, struct headers *h)
{
	__u16 mac = get(skb, mac_header);

	h->head = get_address(skb, head);
	h->data = get_address(skb, data) - h->head;
	h->tail = get(skb, tail);
	h->network = get(skb, network_header);
	/* Unset is ~0 (skb_mac_header_was_set()). */
	h->mac = mac == (__u16)~0 ? 0 : mac;
	/*
	 * A driver hands up a packet with the MAC header set (eth_type_trans()) and pulled, and no network header yet:
	 * there it begins at data.
	 */
	if (!h->network && h->mac)
		h->network = h->data;
}

static __always_inline bool read_header(const struct headers *h, __u32 at, void *to, __u32 size)
{
	return at + size <= h->tail && !bpf_probe_read_kernel(to, size, (void *)(h->head + at));
}

static __always_inline void read_ports(const struct headers *h, __u32 at, struct packet *packet)
{
	__be16 ports[2];

	if (packet->l4_protocol != IPPROTO_TCP && packet->l4_protocol != IPPROTO_UDP)
		return;
	if (!read_header(h, at, ports, sizeof(ports)))
		return;
	packet->sport = bpf_ntohs(ports[0]);
	packet->dport = bpf_ntohs(ports[1]);
	packet->has_ports = 1;
}

static __always_inline void read_ipv4(const struct headers *h, struct packet *packet)
{
	__u8 ip[20];

	if (!read_header(h, h->network, ip, sizeof(ip)))
		return;
	packet->ip_version = 4;
	packet->l4_protocol = ip[9];
	__builtin_memcpy(packet->saddr, ip + 12, 4);
	__builtin_memcpy(packet->daddr, ip + 16, 4);
	/* Only the first fragment has the ports. */
	if (!((ip[6] & 0x1f) | ip[7]))
		read_ports(h, h->network + (ip[0] & 0xf) * 4, packet);
}

/* RFC 8200: extension headers stand between the IPv6 header and what the packet carries. */
static __always_inline void read_ipv6(const struct headers *h, struct packet *packet)
{
	__u32 at = h->network + 40;
	__u8 ip[40], ext[4];
	__u8 next;

	if (!read_header(h, h->network, ip, sizeof(ip)))
		return;
	packet->ip_version = 6;
	__builtin_memcpy(packet->saddr, ip + 8, 16);
	__builtin_memcpy(packet->daddr, ip + 24, 16);
	next = ip[6];
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		packet->l4_protocol = next;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_AH && next != IPPROTO_FRAGMENT) {
			read_ports(h, at, packet);
			return;
		}
		if (!read_header(h, at, ext, sizeof(ext)))
			return;
		if (next == IPPROTO_FRAGMENT) {
			if ((ext[2] << 8 | ext[3]) & 0xfff8) {
				packet->l4_protocol = ext[0];
				return;
			}
			at += 8;
		} else if (next == IPPROTO_AH) {
			at += (ext[1] + 2) * 4; /* RFC 4302 counts in 4 bytes */
		} else {
			at += (ext[1] + 1) * 8;
		}
		next = ext[0];
	}
}

static __always_inline void capture_tuple(struct sk_buff *skb, struct packet *packet)
{
	struct headers h;
	__u8 version;

	find_headers(skb, &h);
	if (!h.network || !read_header(&h, h.network, &version, sizeof(version)))
		return;
	/*
	 * The version nibble alone is no proof: other protocols have what they like there. A packet on its way out has
	 * no protocol yet, or that of a tag in front.
	 */
	switch (packet->protocol) {
	case ETH_P_IP:
	case ETH_P_IPV6:
	case ETH_P_8021Q:
	case ETH_P_8021AD:
	case 0:
		break;
	default:
		return;
	}
	if (version >> 4 == 4)
		read_ipv4(&h, packet);
	else if (version >> 4 == 6)
		read_ipv6(&h, packet);
}

static __always_inline struct net *get_net(struct sk_buff *skb, struct net_device *dev)
{
	struct sock *sk;

	/* A packet on its way out has no device before it is routed, but a socket. */
	if (dev)
		return get(dev, nd_net.net);
	sk = get(skb, sk);
	return sk ? get(sk, __sk_common.skc_net.net) : 0;
}

static __always_inline __u32 get_netns(struct sk_buff *skb, struct net_device *dev)
{
	struct net *net = get_net(skb, dev);

	return net ? get(net, ns.inum) : 0;
}

static __always_inline void capture_packet(struct sk_buff *skb, struct packet *packet)
{
	struct net_device *dev = get(skb, dev);

	packet->netns = get_netns(skb, dev);
	packet->mark = get(skb, mark);
	packet->len = get(skb, len);
	packet->protocol = bpf_ntohs(get(skb, protocol));
	if (dev) {
		packet->ifindex = get(dev, ifindex);
		packet->mtu = get(dev, mtu);
		bpf_core_read_str(packet->ifname, sizeof(packet->ifname), &dev->name);
	}
	capture_tuple(skb, packet);
}

static __always_inline void capture_process(struct process *process)
{
	process->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(process->comm, sizeof(process->comm));
}

#endif /* __CAPTURE_BPF_H__ */
