"""Filters: random ones from the grammar of pcap-filter(7), and a list of those that people type."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .packets import IPV4, IPV6, MACS, PORTS, VLANS

REAL = [
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "host 1.1.1.1",
    "host 1.1.1.1 and tcp port 80",
    "host 10.0.0.1 and not port 22",
    "src host 10.0.0.1 and dst host 10.0.0.2",
    "net 10.0.0.0/8 and not host 10.0.0.1",
    "tcp port 80 or tcp port 443 or tcp port 8080",
    "tcp and (dst port 80 or dst port 443) and host 10.0.0.1",
    "portrange 1-1024",
    "udp port 53 or tcp port 53",
    "src portrange 1024-65535 and dst port 443",
    "ip6 host 2001:db8::1 and tcp dst port 443",
    "ip6 net 2001:db8::/32",
    "ether host 02:00:00:00:00:01",
    "ether broadcast or ether multicast",
    "ether proto 0x88cc",
    "vlan",
    "vlan 100",
    "vlan 100 and host 10.0.0.1",
    "vlan and vlan and tcp port 80",
    "ip or (vlan and ip)",
    "mpls",
    "pppoes",
    "arp host 10.0.0.1",
    "ip proto 47 or ip proto 50",
    "ip6 proto 44",
    "sctp port 80",
    "icmp[icmptype] = icmp-echo or icmp[icmptype] = icmp-echoreply",
    "icmp6[icmp6type] = icmp6-neighborsolicit",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "tcp[tcpflags] & tcp-rst != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "ip[6:2] & 0x1fff = 0",
    "ip[6:2] & 0x3fff != 0",
    "ip[0] & 0xf > 5",
    "ip[8] < 5",
    "ip6[6] = 0 or ip6[6] = 43",
    "udp[4:2] > 100",
    "greater 100",
    "less 60",
    "len > 1000 and len <= 1500",
    "ip multicast",
    "ip6 multicast",
    "not (tcp or udp or icmp)",
]


def expression(rng: Random) -> str:
    """One filter. libpcap may refuse it: some combinations mean nothing, for example `tcp and udp`."""
    return _expression(rng, rng.choice([0, 1, 1, 2, 2, 3]))


def _expression(rng: Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(_PRIMITIVES)(rng)
    kind = rng.random()
    if kind < 0.15:
        return f"not ({_expression(rng, depth - 1)})"
    operator = "and" if kind < 0.5 else "or"
    left, right = _expression(rng, depth - 1), _expression(rng, depth - 1)
    return f"({left}) {operator} ({right})"


def _direction(rng: Random) -> str:
    return rng.choice(["", "", "src ", "dst ", "src or dst ", "src and dst "])


def _host(rng: Random) -> str:
    if rng.random() < 0.6:
        protocol = rng.choice(["", "", "ip ", "arp "])
        return f"{protocol}{_direction(rng)}host {rng.choice(IPV4)}"
    return f"{rng.choice(['', 'ip6 '])}{_direction(rng)}host {rng.choice(IPV6)}"


def _net(rng: Random) -> str:
    if rng.random() < 0.6:
        bits = rng.choice([0, 1, 8, 12, 16, 24, 31, 32])
        address = int(rng.choice(IPV4)) >> 32 - bits << 32 - bits
        return f"{_direction(rng)}net {type(IPV4[0])(address)}/{bits}"
    bits = rng.choice([1, 16, 32, 33, 48, 64, 127, 128])
    address = int(rng.choice(IPV6)) >> 128 - bits << 128 - bits
    return f"{_direction(rng)}net {type(IPV6[0])(address)}/{bits}"


def _port(rng: Random) -> str:
    protocol = rng.choice(["", "", "tcp ", "udp ", "sctp "])
    if rng.random() < 0.6:
        return f"{protocol}{_direction(rng)}port {rng.choice(PORTS)}"
    low, high = sorted(rng.choices([*PORTS, 1, 100, 30000], k=2))
    return f"{protocol}{_direction(rng)}portrange {low}-{high}"


def _protocol(rng: Random) -> str:
    names = ["ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "esp", "ah", "vrrp", "pim"]
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(names)
    if kind < 0.8:
        return f"{rng.choice(['ip', 'ip6', ''])} proto {rng.choice([0, 1, 6, 17, 43, 44, 58, 255])}".strip()
    return f"ether proto {rng.choice([0x0800, 0x0806, 0x86DD, 0x8847, 0x88CC, 100])}"


def _ethernet(rng: Random) -> str:
    mac = rng.choice(MACS).hex(":")
    return rng.choice([f"ether {rng.choice(['', 'src ', 'dst '])}host {mac}", "ether multicast", "ether broadcast"])


def _vlan(rng: Random) -> str:
    return rng.choice(
        ["vlan", f"vlan {rng.choice(VLANS)}", f"vlan {rng.choice(VLANS)} and {_host(rng)}", "mpls", "pppoes"]
    )


def _length(rng: Random) -> str:
    length = rng.choice([0, 14, 34, 60, 100, 1500, 65535])
    return rng.choice([f"greater {length}", f"less {length}", f"len {_relation(rng)} {length}"])


def _relation(rng: Random) -> str:
    return rng.choice(["=", "!=", "<", "<=", ">", ">="])


def _well_known(rng: Random) -> str:
    return rng.choice(
        [
            "tcp[tcpflags] & tcp-syn != 0",
            "tcp[tcpflags] = tcp-syn|tcp-ack",
            "icmp[icmptype] = icmp-echo",
            "icmp[icmptype] != icmp-unreach and icmp[icmpcode] = 0",
            "icmp6[icmp6type] = icmp6-echo",
            "ip[6:2] & 0x1fff = 0",
            "ip multicast",
            "ip6 multicast",
        ]
    )


def _arithmetic(rng: Random) -> str:
    return f"{_value(rng, rng.choice([0, 1, 1, 2]))} {_relation(rng)} {_value(rng, rng.choice([0, 0, 0, 1]))}"


def _number(rng: Random) -> str:
    return str(rng.choice([0, 1, 2, 4, 5, 6, 15, 0x1F, 64, 80, 255, 0x1FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))


def _bytes(rng: Random, depth: int) -> str:
    """Bytes of a header: at a constant offset, or at one that is computed."""
    protocol = rng.choice(["ether", "ip", "ip6", "tcp", "udp", "icmp", "arp"])
    offset = str(rng.choice([0, 1, 2, 5, 6, 8, 9, 12, 13, 16, 33, 60, 1000, 0x7FFFFFFF, 0xFFFFFFFE]))
    if rng.random() < 0.7:
        offset = str(rng.randrange(20))
    elif depth:
        offset = _value(rng, depth - 1)
    return f"{protocol}[{offset}:{rng.choice([1, 1, 2, 4])}]"


def _value(rng: Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0:
        return _number(rng) if kind < 0.35 else "len" if kind < 0.45 else _bytes(rng, 0)
    if kind < 0.15:
        return f"-({_value(rng, depth - 1)})"
    if kind < 0.3:
        return _bytes(rng, depth)
    operator = rng.choice(["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"])
    return f"({_value(rng, depth - 1)} {operator} {_value(rng, depth - 1)})"


_PRIMITIVES: list[Callable[[Random], str]] = [
    _host,
    _host,
    _net,
    _port,
    _port,
    _protocol,
    _protocol,
    _ethernet,
    _vlan,
    _length,
    _well_known,
    _arithmetic,
    _arithmetic,
]
