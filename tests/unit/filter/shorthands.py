"""Tests of the primitives that parameters stand for: random packets, and what a parser in Python finds in them.

It goes past VLAN tags and extension headers. Where there are none, libpcap has the same verdict.
"""

from __future__ import annotations

import ipaddress
import os
import re
from random import Random
from typing import NamedTuple

from pwru.cli import values
from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import DLT_EN10MB, DLT_RAW, compile_expression, compile_filter
from pwru.filter.packet.shorthand import find_shorthand

from . import harness, packets
from .headers import SEED
from .in_kernel import InKernel
from .packets import AH, DESTINATION, FRAGMENT, HOP_BY_HOP, IPV4, IPV6, PORTS, ROUTING, SCTP, TCP, UDP

ETHERTYPES = {0x0800: 4, 0x86DD: 6, 0x0806: 2, 0x8035: 2}
TAGS = (0x8100, 0x88A8, 0x9100)
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, AH)
MOST_TAGS, MOST_EXTENSIONS = 4, 8


class End(Exception):
    """The packet ends before what is looked at."""


class Seen(NamedTuple):
    """`version` 2 is ARP. `hidden`: libpcap does not see all of it."""

    version: int = 0
    addresses: tuple[bytes, bytes] = (b"", b"")
    protocols: tuple[int, ...] = ()
    ports: tuple[int, int] | None = None
    hidden: bool = False


class Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def bytes(self, at: int, size: int) -> bytes:
        if at + size > len(self._data):
            raise End
        return self._data[at : at + size]

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.bytes(at, size), "big")


def parse(data: bytes, *, has_mac: bool) -> Seen:
    """Return as much as there is."""
    reader, at, tags = Reader(data), 0, 0
    try:
        if has_mac:
            while (kind := reader.number(12 + 4 * tags, 2)) in TAGS:
                tags += 1
                if tags > MOST_TAGS:
                    return Seen(hidden=True)
            version, at = ETHERTYPES.get(kind, 0), 14 + 4 * tags
        else:
            version = reader.number(0, 1) >> 4
    except End:
        return Seen(hidden=bool(tags))
    if version not in (4, 6, 2):
        return Seen(hidden=bool(tags))
    seen = {4: parse_ip, 6: parse_ip6, 2: parse_arp}[version](reader, at)
    return seen._replace(hidden=seen.hidden or bool(tags))


def read(reader: Reader, *places: tuple[int, int]) -> list[bytes]:
    """Return each, or as many words as there are."""
    found = []
    for at, size in places:
        data, step = b"", min(size, 4)
        try:
            while len(data) < size:
                data += reader.bytes(at + len(data), step)
        except End:
            pass
        found.append(data)
    return found


def parse_arp(reader: Reader, at: int) -> Seen:
    source, target = read(reader, (at + 14, 4), (at + 24, 4))
    return Seen(2, (source, target))


def parse_ip(reader: Reader, at: int) -> Seen:
    source, target, protocol, first, fragment = read(
        reader, (at + 12, 4), (at + 16, 4), (at + 9, 1), (at, 1), (at + 6, 2)
    )
    seen = Seen(4, (source, target), tuple(protocol))
    if not protocol or protocol[0] not in (TCP, UDP, SCTP) or int.from_bytes(fragment, "big") & 0x1FFF:
        return seen
    return seen._replace(ports=parse_ports(reader, at + (first[0] & 15) * 4))


def parse_ports(reader: Reader, at: int) -> tuple[int, int]:
    """A port that is not there is -1."""
    source, target = read(reader, (at, 2), (at + 2, 2))
    return int.from_bytes(source, "big") if source else -1, int.from_bytes(target, "big") if target else -1


def parse_ip6(reader: Reader, at: int) -> Seen:
    source, target = read(reader, (at + 8, 16), (at + 24, 16))
    protocols: list[int] = []
    ports = None
    try:
        protocols.append(reader.number(at + 6, 1))
        at += 40
        while protocols[-1] in EXTENSIONS and len(protocols) <= MOST_EXTENSIONS:
            kind = protocols[-1]
            if kind == FRAGMENT:
                later, size = reader.number(at + 2, 2) & 0xFFF8, 8
            else:
                later, units = 0, reader.number(at + 1, 1)
                size = (units + 2) * 4 if kind == AH else (units + 1) * 8
            protocols.append(reader.number(at, 1))
            at += size
            if later:
                return Seen(6, (source, target), tuple(protocols), hidden=True)
        if protocols[-1] in (TCP, UDP, SCTP):
            ports = parse_ports(reader, at)
    except End:
        pass
    return Seen(6, (source, target), tuple(protocols), ports, hidden=not set(protocols).isdisjoint(EXTENSIONS))


def meaning(primitive: str, seen: Seen) -> bool:
    """Whether it is true of the packet, by pcap-filter(7)."""
    side, _, what = primitive.partition(" ")
    index = side == "dst"
    if what.startswith(("host ", "net ")):
        network = ipaddress.ip_network(what.split()[1])
        if (network.version == 4) != (seen.version in (4, 2)):
            return False
        address, size = seen.addresses[index], -(-network.prefixlen // 32) * 4  # no more words than that are looked at
        whole = address.ljust(network.max_prefixlen // 8, b"\0")
        return len(address) >= size and ipaddress.ip_address(whole) in network
    if what.startswith("port "):
        return seen.ports is not None and seen.ports[index] == int(what.split()[1])
    if number := re.search("ip proto ([0-9]+)", primitive):
        return seen.version in (4, 6) and int(number[1]) in seen.protocols
    if primitive in ("ip", "ip6"):
        return seen.version == {"ip": 4, "ip6": 6}[primitive]
    number_of = {"ah": 51, "esp": 50, "pim": 103, "sctp": 132, "tcp": 6, "udp": 17, "icmp6": 58}
    number_of |= {"icmp": 1, "igmp": 2, "igrp": 9, "carp": 112, "vrrp": 112}
    versions = {"icmp6": (6,)} | dict.fromkeys(("icmp", "igmp", "igrp", "carp", "vrrp"), (4,))
    return seen.version in versions.get(primitive, (4, 6)) and number_of[primitive] in seen.protocols


def primitive(rng: Random) -> str:
    side = rng.choice(("src", "dst"))
    match rng.randrange(4):
        case 0:
            return f"{side} port {rng.choice(PORTS)}"
        case 1:
            address = str(rng.choice([*IPV4, *IPV6]))
            length = rng.choice(["", "", "/8", "/16"])
            return f"{side} {values.address(str(ipaddress.ip_network(address + length, strict=False)))}"
        case 2:
            return values.protocol(str(rng.choice([TCP, UDP, SCTP, 1, 58, *EXTENSIONS, 4, 41])))
    return values.protocol(rng.choice(("tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "ip", "ip6")))


def packet(rng: Random) -> packets.Packet:
    """One in three has all its headers after tags or extension headers, and is whole."""
    if rng.random() < 0.6:
        return packets.packet(rng)
    data = packets.ethernet(rng) if rng.random() < 0.7 else packets.ip(rng)
    return packets.Packet(data, len(data))


class Shorthands(InKernel):
    default_pairs = 10000
    per_filter = 50  # with fewer filters, one run in thirty has too few packets that match

    def test_meaning(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Alone and with others, with and without a link-layer header."""
        print(f"PWRU_FILTER_SEED={SEED}")  # shown for a test that fails
        rng = Random(SEED)
        pairs = int(os.environ.get("PWRU_FILTER_PAIRS", self.default_pairs))
        matched = hidden = 0
        for _ in range(0, pairs, self.per_filter):
            asked = [primitive(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            assert all(find_shorthand(each) for each in asked), asked
            try:
                programs = compile_filter(Filter(primitives=tuple(asked)))
            except PwruError as error:
                assert "expression rejects all packets" in str(error)  # noqa: PT017  (they exclude each other)
                continue
            batch = harness.Batch([packet(rng) for _ in range(self.per_filter)])
            verdicts = batch.run(image, programs, cast)
            libpcap = [
                [harness.libpcap_verdicts(compile_expression(each, dlt), batch.packets) for each in asked]
                for dlt in (DLT_EN10MB, DLT_RAW)
            ]
            for index, (each, got) in enumerate(zip(batch.packets, verdicts, strict=True)):
                for has_mac, verdict, by_libpcap in zip((True, False), got, libpcap, strict=True):
                    seen = parse(each.data, has_mac=has_mac)
                    wanted = [meaning(text, seen) for text in asked]
                    what = f"{asked} {seen} {each.data.hex()} mac={has_mac}"
                    assert verdict == (all(wanted) and bool(each.data)), what
                    if not seen.hidden:
                        assert wanted == [by[index] for by in by_libpcap], what
                    matched += verdict
                    hidden += verdict and seen.hidden
        assert matched > pairs * 0.03
        assert hidden > pairs * 0.01
