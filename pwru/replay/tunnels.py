"""Where the packet inside a tunnel's packet begins, in recorded bytes: bpf/tunnel.bpf.h for a packet that arrives."""

from __future__ import annotations

from typing import NamedTuple

from pwru.filter.packet.headers import (
    AH,
    ARPS,
    FRAGMENT,
    GRE,
    IP,
    IP6,
    IPIP,
    IPV6,
    MAX_EXTENSION_HEADERS,
    MAX_TAGS,
    OPTIONS,
    TAGS,
    TEB,
    UDP,
)
from pwru.filter.packet.skb import ETH_HLEN

_VXLAN_PORTS, _VXLAN_GPE_PORT, _GENEVE_PORT = (4789, 8472), 4790, 6081


class Tunnel(NamedTuple):
    """Offsets of the inner link-layer and network headers; None: the packet has no such header, as far as is known."""

    mac: int | None = None
    network: int | None = None


class _Cut(Exception):
    """The bytes end before what is looked at."""


def find_tunnel(data: bytes, *, has_mac: bool) -> Tunnel:
    """Return what the first bytes of a packet tell; `has_mac`: they begin with a link-layer header."""
    try:
        transport = _find_transport(data, _find_ip(data) if has_mac else 0)
        tunnel = _find_in(data, *transport) if transport else Tunnel()
    except _Cut:
        return Tunnel()
    return Tunnel() if tunnel.network is None or tunnel.network > len(data) else tunnel


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise _Cut
    return int.from_bytes(data[at : at + size])


def _past_tags(data: bytes, mac: int) -> int:
    """Return the end of a link-layer header, with its VLAN tags."""
    at = mac + ETH_HLEN
    for _ in range(MAX_TAGS):
        if _number(data, at - 2, 2) not in TAGS:
            break
        at += 4
    return at


def _find_ip(data: bytes) -> int | None:
    at = _past_tags(data, 0)
    return at if _number(data, at - 2, 2) in (IP, IP6) else None


def _find_transport(data: bytes, at: int | None) -> tuple[int, int] | None:
    """Return the protocol that IP carries, and where it begins; None of a later fragment, and of no IP."""
    if at is None:
        return None
    version, ihl = divmod(_number(data, at, 1), 16)
    if version == 4:
        later = _number(data, at + 6, 2) & 0x1FFF
        return None if later or ihl < 5 else (_number(data, at + 9, 1), at + 4 * ihl)
    if version != 6:
        return None
    protocol, at = _number(data, at + 6, 1), at + 40
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in (*OPTIONS, FRAGMENT, AH):
            break
        following, units = _number(data, at, 1), _number(data, at + 1, 1)
        if protocol == FRAGMENT and _number(data, at + 2, 2) & 0xFFF8:
            return None
        at += 8 if protocol == FRAGMENT else (units + 2) * 4 if protocol == AH else (units + 1) * 8
        protocol = following
    return protocol, at


def _find_in(data: bytes, protocol: int, at: int) -> Tunnel:
    if protocol in (IPIP, IPV6):
        return Tunnel(None, at)
    if protocol == GRE:
        return _find_in_gre(data, at)
    return _find_in_udp(data, at) if protocol == UDP else Tunnel()


def _frame(data: bytes, mac: int) -> Tunnel:
    return Tunnel(mac, _past_tags(data, mac))


def _carries(data: bytes, kind: int, at: int) -> Tunnel:
    """`kind` is an EtherType."""
    if kind == TEB:
        return _frame(data, at)
    return Tunnel(None, at) if kind in (IP, IP6) else Tunnel()


def _find_in_gre(data: bytes, at: int) -> Tunnel:
    """RFC 2784 and 2890: each of three flags stands for 4 more bytes."""
    flags, kind = _number(data, at, 2), _number(data, at + 2, 2)
    if flags & 0x4007:  # with routing, or another version
        return Tunnel()
    return _carries(data, kind, at + 4 + 4 * (flags & 0xB000).bit_count())


def _find_in_udp(data: bytes, at: int) -> Tunnel:
    """VXLAN is RFC 7348, Geneve RFC 8926."""
    port, header = _number(data, at + 2, 2), _number(data, at + 8, 8)
    at += 16
    options, kind = header >> 56 & 0x3F, header >> 32 & 0xFFFF  # of Geneve
    if port == _GENEVE_PORT:
        return Tunnel() if header >> 62 else _carries(data, kind, at + 4 * options)
    if port == _VXLAN_GPE_PORT:
        following = header >> 32 & 0xFF if header >> 56 & 0x0C == 0x0C else 0  # IPv4, IPv6, Ethernet
        return _frame(data, at) if following == 3 else Tunnel(None, at) if following in (1, 2) else Tunnel()
    if port in _VXLAN_PORTS:
        return _frame(data, at) if header >> 56 & 8 else Tunnel()
    # On another port, a header counts if it has what no option changes, and what follows looks like a frame.
    if header & 0xFFFFFFFF000000FF == 8 << 56:
        return _if_frame(data, at)
    if not header & 0xC03F0000000000FF and kind == TEB:
        return _if_frame(data, at + 4 * options)
    return Tunnel()


def _if_frame(data: bytes, mac: int) -> Tunnel:
    network = _past_tags(data, mac)
    kind = _number(data, network - 2, 2)
    version = {IP: 4, IP6: 6}.get(kind)
    looks_right = kind == ARPS[0] if version is None else _number(data, network, 1) >> 4 == version
    return Tunnel(mac, network) if looks_right else Tunnel()
