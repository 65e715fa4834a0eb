"""Random packets, as a capture has them: the first bytes of a packet and the length that it had.

Addresses and ports come from a few, the same that expressions.py draws from, so that filters match now and then.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import NamedTuple

MACS = [bytes.fromhex(mac) for mac in ("020000000001", "020000000002", "ffffffffffff", "01005e000001", "333300000001")]
IPV4 = [IPv4Address(host) for host in ("10.0.0.1", "10.0.0.2", "10.1.0.1", "1.1.1.1", "224.0.0.1", "255.255.255.255")]
IPV6 = [IPv6Address(host) for host in ("2001:db8::1", "2001:db8::2", "2001:db8:1::1", "fe80::1", "ff02::1", "::1")]
PORTS = [22, 53, 80, 443, 1024, 8080, 65535]
VLANS = [0, 1, 100, 4095]

ETHERTYPE_IP, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
VLAN_TPIDS = [0x8100, 0x88A8, 0x9100]
OTHER_ETHERTYPES = [0x8035, 0x8847, 0x8863, 0x8864, 0x88CC, 0x9000, 0x0600, 0x05DC, 38]

ICMP, IGMP, TCP, UDP, GRE, ESP, AH, ICMPV6, SCTP = 1, 2, 6, 17, 47, 50, 51, 58, 132
HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT, DESTINATION = 0, 43, 44, 59, 60


class Packet(NamedTuple):
    data: bytes  # what was captured
    len: int  # the packet's length, not less than len(data)


def packet(rng: Random) -> Packet:
    """Ethernet or bare IP, whole or cut at any byte, sometimes nothing but noise."""
    kind = rng.random()
    if kind < 0.6:
        data = ethernet(rng)
    elif kind < 0.95:
        data = ip(rng)
    else:
        data = rng.randbytes(rng.choice([0, 1, 13, 14, 20, 33, 34, 40, 54, 60, 100]))
    if data and rng.random() < 0.1:
        data = _with_noise(rng, data)
    length = len(data)
    cut = rng.random()
    if cut < 0.25:  # the end was not captured, or is not in the linear part
        data = data[: rng.randrange(length + 1)]
        length = rng.choice([length, length, 1500, 65535, 0xFFFFFFFF])
    elif cut < 0.4:  # the packet itself ends early
        data = data[: rng.randrange(length + 1)]
        length = len(data)
    return Packet(data, max(length, len(data)))


def _with_noise(rng: Random, data: bytes) -> bytes:
    noisy = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        noisy[rng.randrange(len(noisy))] = rng.randrange(256)
    return bytes(noisy)


def ethernet(rng: Random) -> bytes:
    frame = rng.choice(MACS) + rng.choice(MACS)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        priority = rng.choice([0, 0, 7]) << 13
        frame += struct.pack("!HH", rng.choice(VLAN_TPIDS), priority | rng.choice(VLANS))
    kind = rng.random()
    if kind < 0.45:
        return frame + struct.pack("!H", ETHERTYPE_IP) + ipv4(rng)
    if kind < 0.8:
        return frame + struct.pack("!H", ETHERTYPE_IPV6) + ipv6(rng)
    if kind < 0.9:
        return frame + struct.pack("!H", ETHERTYPE_ARP) + arp(rng)
    return frame + struct.pack("!H", rng.choice(OTHER_ETHERTYPES)) + rng.randbytes(46)


def arp(rng: Random) -> bytes:
    return (
        struct.pack("!HHBBH", 1, ETHERTYPE_IP, 6, 4, rng.choice([1, 2]))
        + rng.choice(MACS)
        + rng.choice(IPV4).packed
        + rng.choice(MACS)
        + rng.choice(IPV4).packed
    )


def ip(rng: Random) -> bytes:
    return ipv4(rng) if rng.random() < 0.55 else ipv6(rng)


def ipv4(rng: Random, depth: int = 0) -> bytes:
    options = rng.randbytes(4 * rng.choice([0, 0, 0, 1, 5, 10]))
    # Later fragments have no transport header; what is in its place must not be taken for one.
    fragment = rng.choice([0, 0, 0, 0x4000, 0x2000, 0x2000 | 185, 1, 0x1FFF])
    protocol, payload = transport(rng, ICMP, depth)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | 5 + len(options) // 4,
        rng.choice([0, 0, 0x10, 0xB8]),
        20 + len(options) + len(payload),
        rng.randrange(1 << 16),
        fragment,
        rng.choice([1, 64, 255]),
        protocol,
        rng.randrange(1 << 16),
        rng.choice(IPV4).packed,
        rng.choice(IPV4).packed,
    )
    return header + options + payload


def ipv6(rng: Random, depth: int = 0) -> bytes:
    protocol, payload = transport(rng, ICMPV6, depth)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        protocol, payload = extension_header(rng, protocol, payload)
    header = struct.pack(
        "!IHBB16s16s",
        6 << 28 | rng.randrange(1 << 28),
        len(payload),
        protocol,
        rng.choice([1, 64, 255]),
        rng.choice(IPV6).packed,
        rng.choice(IPV6).packed,
    )
    return header + payload


def extension_header(rng: Random, following: int, payload: bytes) -> tuple[int, bytes]:
    """Put one IPv6 extension header before the payload."""
    kind = rng.choice([HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AH])
    if kind == FRAGMENT:
        offset = rng.choice([0, 0, 1 << 3, 185 << 3 | 1])
        header = struct.pack("!BBHI", following, 0, offset, rng.randrange(1 << 32))
    elif kind == AH:
        words = rng.randrange(1, 6)  # its length counts 4 bytes, less two
        header = struct.pack("!BB", following, words) + rng.randbytes(4 * words + 6)
    else:
        units = rng.randrange(3)  # 8 bytes each, less one
        header = struct.pack("!BB", following, units) + rng.randbytes(8 * units + 6)
    return kind, header + payload


def transport(rng: Random, icmp: int, depth: int) -> tuple[int, bytes]:
    """(protocol, header and payload)"""
    protocol = rng.choice([TCP, TCP, TCP, UDP, UDP, UDP, icmp, icmp, SCTP, IGMP, GRE, ESP, NO_NEXT, 4, 41, 255])
    ports = struct.pack("!HH", rng.choice(PORTS), rng.choice(PORTS))
    data = rng.randbytes(rng.choice([0, 1, 8, 32, 100]))
    if protocol == TCP:
        options = rng.randbytes(4 * rng.choice([0, 0, 3, 10]))
        flags = rng.choice([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0xC2, 0x00, 0xFF])
        offset = 5 + len(options) // 4 << 4
        sequence = rng.randbytes(8)
        return protocol, ports + sequence + struct.pack("!BBHHH", offset, flags, 65535, 0, 0) + options + data
    if protocol == UDP:
        return protocol, ports + struct.pack("!HH", 8 + len(data), rng.randrange(1 << 16)) + data
    if protocol == SCTP:
        return protocol, ports + rng.randbytes(8) + data
    if protocol == icmp:
        types = [0, 3, 5, 8, 11, 13] if icmp == ICMP else [1, 128, 129, 133, 134, 135, 136]
        return protocol, struct.pack(
            "!BBHI", rng.choice(types), rng.choice([0, 1, 3]), 0, rng.randrange(1 << 32)
        ) + data
    if protocol in (4, 41) and depth < 2:
        return protocol, ipv4(rng, depth + 1) if protocol == 4 else ipv6(rng, depth + 1)
    return protocol, data
