"""Numbers in the headers of packets, and how far the BPF programs look for headers."""

# include/uapi/linux/if_ether.h
IP, IP6, ARPS, TAGS, TEB = 0x0800, 0x86DD, (0x0806, 0x8035), (0x8100, 0x88A8, 0x9100), 0x6558
# include/uapi/linux/in.h and in6.h. The headers of OPTIONS have the same layout: hop-by-hop options, routing,
# destination options.
IPIP, UDP, IPV6, FRAGMENT, GRE, AH = 4, 17, 41, 44, 47, 51
OPTIONS = (0, 43, 60)
MAX_TAGS, MAX_EXTENSION_HEADERS = 4, 8  # bpf/ip.bpf.h
