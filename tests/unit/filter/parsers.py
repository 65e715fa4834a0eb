"""Tests of what is taken for IP, by the parser in C and by the packet filter: skbs whose bytes are IP or are not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import Programs, compile_filter
from pwru.filter.packet.skb import ETH_HLEN, MAC_UNSET, filter_packet
from pwru.kernel.btf import vmlinux_btf

from . import harness, packets
from .headers import SEED
from .in_kernel import InKernel

UNSET = 0xFFFF  # transport_header
IP, IP6, ARP, VLAN, QINQ, MPLS, MACSEC = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 0x88E5
COUNT, SKB_SIZE, PACKET_SIZE = 8, 256, 220
START = 64  # of the packet, from head
FIELDS = (
    *("protocol", "transport_header", "network_header", "mac_header"),
    *("inner_network_header", "inner_mac_header"),
)


class Skb(NamedTuple):
    """Positions are counted from `data`, which is at START."""

    data: bytes
    network: int = 0
    mac: int | None = None
    transport: int | None = None
    protocol: int = IP
    begins: int = 0  # skb->data
    length: int | None = None  # from there on; by default, up to the end
    device: bool = True
    socket: bool = False
    inner: int | None = None
    inner_mac: int | None = None
    with_network: bool = True  # or it is not set yet
    tag: tuple[int, int] = (0, 0)  # that the bytes lack: vlan_proto, vlan_tci


class Found(NamedTuple):
    version: int = 0
    inner: int = 0
    protocol: int = 0
    source: int = 0
    ports: tuple[int, int] | None = None


@cache
def offset(name: str) -> int:
    struct_ = vmlinux_btf().struct("sk_buff")
    member = struct_.member(name) if struct_ else None
    assert member
    return member.offset


def udp4(
    *,
    ihl: int = 5,
    total: int | None = None,
    offset: int = 0,
    length: int | None = None,
    size: int = 20,
    protocol: int = 17,
) -> bytes:
    options = bytes(4 * max(0, ihl - 5))
    whole = 20 + len(options) + 8 + size
    header = struct.pack("!BBHHHBBH", 0x40 | ihl, 0, whole if total is None else total, 0, offset, 64, protocol, 0)
    header += bytes((10, 0, 0, 1, 10, 0, 0, 2)) + options
    return header + struct.pack("!HHHH", 7, 8, 8 + size if length is None else length, 0) + bytes(size)


def udp6(*, payload: int | None = None, fragment: bool = False, length: int = 28, size: int = 20) -> bytes:
    extension = bytes((17, 0, 0, 1)) + bytes(4) if fragment else b""
    whole = len(extension) + 8 + size
    header = struct.pack("!IHBB", 6 << 28, whole if payload is None else payload, 44 if fragment else 17, 64)
    header += bytes(15) + b"\1" + bytes(15) + b"\2" + extension
    return header + struct.pack("!HHHH", 7, 8, length, 0) + bytes(size)


def tagged(*types: int) -> bytes:
    """Return an Ethernet header: a tag after each type but the last, with a priority that looks like IP's version."""
    tags = b"".join(struct.pack("!HH", each, 0x4505) for each in types[:-1])
    return bytes(12) + tags + struct.pack("!H", types[-1])


NOTHING = Found()
UDP4, UDP6 = Found(4, 0, 17, 1, (7, 8)), Found(6, 0, 17, 1, (7, 8))
NO_PORTS4, NO_PORTS6 = UDP4._replace(ports=None), UDP6._replace(ports=None)
MPLS_IP = bytes.fromhex("45001140") + udp4()

CASES = {
    "whole": (Skb(udp4(), transport=20), UDP4),
    "whole, IPv6": (Skb(udp6(), transport=40, protocol=IP6), UDP6),
    "from a device without a link layer": (Skb(udp4()), UDP4),
    "from such a device, IPv6": (Skb(udp6(), protocol=IP6), UDP6),
    "with options": (Skb(udp4(ihl=7), transport=28), UDP4),
    "on its way out": (Skb(udp4(total=0), transport=20, protocol=0, device=False, socket=True), UDP4),
    "the length is not written, and the memory was used": (
        Skb(udp4(total=0xBEEF), transport=20, protocol=0, device=False, socket=True),
        UDP4,
    ),
    "neither is that of IPv6": (Skb(udp6(payload=0xBEEF), transport=40, protocol=IP6, device=False, socket=True), UDP6),
    "neither are the ports": (
        Skb(udp4(total=0, length=0), transport=20, protocol=0, device=False, socket=True),
        NO_PORTS4,
    ),
    "there was something else": (
        Skb(udp4(total=99, length=77), transport=20, protocol=0, device=False, socket=True),
        NO_PORTS4,
    ),
    "neither are the ports of IPv6": (
        Skb(udp6(payload=0, length=0), transport=40, protocol=IP6, device=False, socket=True),
        NO_PORTS6,
    ),
    "a receiver sees to a bad length": (Skb(udp4(length=3), transport=20), UDP4),
    "a first fragment": (Skb(udp4(length=2000, offset=0x2000), transport=20, device=False), UDP4),
    "that of IPv6": (Skb(udp6(length=2000, fragment=True), transport=48, protocol=IP6, device=False), UDP6),
    "a later fragment": (Skb(udp4(offset=100), transport=20), NO_PORTS4),
    "a segment with the length of the whole": (Skb(udp4(total=9000), transport=20, begins=20), UDP4),
    "a segment of IPv6": (Skb(udp6(payload=9000), transport=40, begins=40, protocol=IP6), UDP6),
    "BIG TCP": (Skb(udp6(payload=0), transport=40, protocol=IP6), UDP6),
    "a tunnel's header, over ARP": (Skb(udp4(total=0xBEEF), transport=20, protocol=ARP), UDP4),
    "a tunnel's header, over one that has transport": (Skb(udp4(total=0xBEEF, length=48, size=40), transport=60), UDP4),
    "in a tunnel's header": (Skb(bytes(4) + udp4(), network=4, transport=24), UDP4),
    "before it is encrypted in place": (Skb(bytes(16) + udp4() + bytes(20), network=16, transport=36), UDP4),
    "encrypted in place": (Skb(bytes(16) + udp4(total=0xBEEF), network=16, transport=36), NOTHING),
    "shorter than it is": (Skb(bytes(16) + udp4(total=40, size=100), network=16, transport=36), NOTHING),
    "encrypted, IPv6": (Skb(bytes(16) + udp6(payload=0xBEEF), network=16, transport=56, protocol=IP6), NOTHING),
    "MACsec": (Skb(bytes(30) + udp4(), network=30, mac=0, transport=50, protocol=MACSEC), NOTHING),
    "too short a header": (Skb(udp4(ihl=4), transport=20), NOTHING),
    "no room": (Skb(udp4()[:19], transport=20), NOTHING),
    "no room, IPv6": (Skb(udp6()[:39], transport=40, protocol=IP6), NOTHING),
    "the addresses of an inner frame": (
        Skb(bytes.fromhex("46001234567842000000aaaa0800") + udp4(), transport=-8, mac=-42),
        NOTHING,
    ),
    "an MPLS label": (Skb(MPLS_IP, transport=24, protocol=MPLS), NOTHING),
    "after an MPLS label": (Skb(tagged(MPLS) + MPLS_IP, mac=0, network=18, begins=18, transport=18), UDP4),
    "a frame": (Skb(tagged(IP) + udp4(), mac=0, network=14), UDP4),
    "a received frame": (Skb(tagged(IP) + udp4(), mac=0, network=14, with_network=False, begins=14), UDP4),
    "a frame whose length is wrong": (Skb(tagged(IP) + udp4(total=2000), mac=0, network=14, begins=14), UDP4),
    "a frame whose header is too short": (Skb(tagged(IP) + udp4(ihl=4), mac=0, network=14, begins=14), NO_PORTS4),
    "a frame of the other version": (Skb(tagged(IP) + udp6(), mac=0, network=14, begins=14), NOTHING),
    "that of IPv6, too": (Skb(tagged(IP6) + udp4(), mac=0, network=14, begins=14, protocol=IP6), NOTHING),
    "a tag before the other version": (Skb(tagged(VLAN, IP) + udp6(), mac=0, network=14, protocol=VLAN), NOTHING),
    "padding where the ports would be": (Skb(tagged(IP) + udp4(total=22), mac=0, network=14, begins=14), NO_PORTS4),
    "ports at the very end": (Skb(tagged(IP) + udp4(total=24), mac=0, network=14, begins=14), UDP4),
    "padding after IPv6": (Skb(tagged(IP6) + udp6(payload=3), mac=0, network=14, protocol=IP6), NO_PORTS6),
    "a frame of another protocol": (Skb(tagged(0x1234) + udp4(), mac=0, network=14, protocol=0x1234), NOTHING),
    "a tag": (Skb(tagged(VLAN, IP) + udp4(), mac=0, network=14, begins=14, protocol=VLAN), UDP4),
    "a tag, IPv6": (Skb(tagged(VLAN, IP6) + udp6(), mac=0, network=18, begins=14, protocol=VLAN), UDP6),
    "two tags": (Skb(tagged(QINQ, VLAN, IP) + udp4(), mac=0, network=14, begins=14, protocol=QINQ), UDP4),
    "two tags and no network header": (
        Skb(tagged(QINQ, VLAN, IP) + udp4(), mac=0, with_network=False, begins=14, protocol=QINQ),
        UDP4,
    ),
    "two tags before it": (Skb(tagged(QINQ, VLAN, IP) + udp4(), mac=0, network=22, begins=22), UDP4),
    "four tags": (Skb(tagged(QINQ, VLAN, VLAN, VLAN, IP) + udp4(), mac=0, network=14, begins=14, protocol=QINQ), UDP4),
    "no end of tags": (Skb(tagged(*[VLAN] * 9, IP) + udp4(), mac=0, network=14, begins=14, protocol=VLAN), NOTHING),
    "a tag that is being taken out": (Skb(tagged(VLAN, IP) + udp4(), mac=0, network=14, begins=18), UDP4),
    "a tag before something else": (Skb(tagged(VLAN, 0x1234) + udp4(), mac=0, network=14, protocol=VLAN), NOTHING),
    "inside a tunnel": (Skb(udp4() + udp4(), transport=20, inner=48), UDP4._replace(inner=4)),
    "encrypted by IPsec": (Skb(udp4(protocol=50) + udp4(), transport=20, inner=48), NO_PORTS4._replace(protocol=50)),
    "encrypted inside": (Skb(udp4() + udp4(total=0xBEEF), transport=20, inner=48), UDP4),
}


class Parsers(InKernel):
    def test_what_is_ip(self, image: bytes, cast: RdonlyCast | None) -> None:
        found = run(image, cast, "ip or ip6", [skb for skb, _ in CASES.values()])
        wanted = dict(zip(CASES, (wanted for _, wanted in CASES.values()), strict=True))
        differ = [(name, got) for name, (_, got) in zip(CASES, found, strict=True) if got != wanted[name]]
        assert not differ, differ
        for (name, (skb, each)), (matches, _) in zip(CASES.items(), found, strict=True):
            # With a link-layer header, only that is asked; this expression knows no tags.
            if skb.mac is None:
                assert matches == bool(each.version), name

    def test_both_agree(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Whatever is in an skb without a link-layer header; and with one, if it is there up to its addresses."""
        print(f"PWRU_FILTER_SEED={SEED}")  # shown for a test that fails
        rng = Random(SEED)
        by_version = [0, 0]
        for text, versions in (("ip", (4,)), ("ip6", (6,)), ("ip or ip6", (4, 6))):
            expression = " or ".join((f"({text})", f"(vlan and ({text}))", f"(vlan and ({text}))"))
            skbs = [random_skb(rng) for _ in range(30 * COUNT)]
            for skb, (matches, tuple_) in zip(skbs, run(image, cast, (text, expression), skbs), strict=True):
                assert matches == (tuple_.version in versions), (text, skb, tuple_)
                by_version[bool(tuple_.version)] += 1
        assert min(by_version) > 100

    def test_filters_that_do_not_ask_for_ip(self, image: bytes, cast: RdonlyCast | None) -> None:
        """What is not IP has no address, whatever its bytes say; its length is that of the packet."""
        skb = CASES["encrypted in place"][0]
        for text, expected in {
            "src host 10.0.0.1": False,
            "not src host 10.0.0.9": True,
            "not tcp": True,
            "greater 40": True,
            "tcp or greater 1000": False,
            "tcp or greater 40": True,
            "udp or arp": False,
            "not ether host 02:00:00:00:00:01 and udp": False,
            "not ether host 02:00:00:00:00:01": True,
        }.items():
            ((matches, _),) = run(image, cast, text, [skb])
            assert matches == expected, text


def random_skb(rng: Random) -> Skb:
    """Return IP or something else, whole or damaged, with headers that are right or not."""
    types = rng.choice([[], [], [VLAN], [QINQ, VLAN]])
    content = rng.choice([udp4(), udp6(), packets.ip(rng)[:120], rng.randbytes(60)])
    kind = {4: IP, 6: IP6}.get(content[0] >> 4, 0x1234)
    if rng.random() < 0.6:
        damaged = bytearray(content)
        for place in rng.sample([0, 0, 2, 3, 4, 5], rng.choice([1, 2])):
            damaged[place] = rng.choice([damaged[place] ^ 1 << rng.randrange(8), rng.randrange(256)])
        content = bytes(damaged)
    protocol = rng.choice([kind, kind, kind, 0, IP, VLAN, ARP, MPLS, MACSEC])
    if rng.random() < 0.5:
        # libpcap wants nothing but the EtherType, so there must be what C wants to read.
        if content[0] >> 4 != {IP: 4, IP6: 6}.get(kind) or len(content) < 40:
            content, kind = udp4(), IP
        header = tagged(*types, kind)
        network = rng.choice([ETH_HLEN, len(header)])
        return Skb(header + content, network, 0, None, protocol, network, with_network=rng.random() < 0.7)
    front = rng.choice([0, 0, 4, 16])
    transport = front + rng.choice([20, 20, 40, 40, 24, 0, 4, -8, 60])
    begins = front + rng.choice([0, 20, 40]) if not front or rng.random() < 0.3 else 0
    return Skb(bytes(front) + content, front, None, rng.choice([None, transport, transport]), protocol, begins)


def run(
    image: bytes, cast: RdonlyCast | None, text: str | tuple[str, str], skbs: list[Skb]
) -> list[tuple[bool, Found]]:
    """Return whether each matches the expression, and its tuple. A pair of texts: without and with a link layer."""
    l3, l2 = (text, text) if isinstance(text, str) else text
    programs = Programs(compile_filter(Filter(l2)).l2, compile_filter(Filter(l3)).l3)
    layout = harness.layout_of_this_kernel()
    return run_filter(image, filter_packet(programs, layout, cast, max_tags=harness.max_tags()), skbs)


def run_filter(image: bytes, code: bytes, skbs: list[Skb]) -> list[tuple[bool, Found]]:
    """Return the same, with this body of filter_packet()."""
    return [(match, unpack(value)) for match, value in run_program(image, "run_tuples", {"filter_packet": code}, skbs)]


def run_program(image: bytes, program: str, code: dict[str, bytes], skbs: list[Skb]) -> list[tuple[bool, int]]:
    """Return the verdict and the value of each, by a program of the harness with these bodies of stubs."""
    offsets = [harness.SKBS_DATA + index * SKB_SIZE for index in range(COUNT)]
    memories = [memory(skbs[first : first + COUNT]) for first in range(0, len(skbs), COUNT)]
    batches = harness.run_on_batches(image, program, code, offsets, memories)
    return [(bool(match), value) for results in batches for match, value in results][: len(skbs)]


def memory(skbs: list[Skb]) -> Callable[[int], bytes]:
    def fill(address: int) -> bytes:
        memory = bytearray(harness.SKBS_SIZE)
        for index, skb in enumerate(skbs):
            at = harness.SKBS_DATA + index * SKB_SIZE
            head = address + harness.SKBS_DATA + COUNT * SKB_SIZE + index * PACKET_SIZE
            memory[head - address + START : head - address + START + len(skb.data)] = skb.data

            def position(place: int | None, unset: int) -> int:
                return unset if place is None else START + place

            values = (
                int.from_bytes(skb.protocol.to_bytes(2, "big"), "little"),
                position(skb.transport, UNSET),
                position(skb.network if skb.with_network else None, 0),
                position(skb.mac, MAC_UNSET),
                position(skb.inner, 0),
                position(skb.inner_mac, 0),
            )
            for name, value in zip(FIELDS, values, strict=True):
                struct.pack_into("=H", memory, at + offset(name), value)
            struct.pack_into("!H", memory, at + offset("vlan_proto"), skb.tag[0])
            struct.pack_into("=H", memory, at + offset("vlan_tci"), skb.tag[1])
            length = len(skb.data) - skb.begins if skb.length is None else skb.length
            struct.pack_into("=I", memory, at + offset("tail"), START + len(skb.data))
            struct.pack_into("=I", memory, at + offset("len"), length & 0xFFFFFFFF)
            struct.pack_into("=QQ", memory, at + offset("head"), head, head + START + skb.begins)
            for name, is_set in (("dev", skb.device), ("sk", skb.socket)):
                struct.pack_into("=Q", memory, at + offset(name), address if is_set else 0)
        return bytes(memory)

    return fill


def unpack(value: int) -> Found:
    ports = (value >> 16 & 0xFFFF, value & 0xFFFF) if value >> 40 & 1 else None
    return Found(value >> 60, value >> 56 & 0xF, value >> 48 & 0xFF, value >> 32 & 0xFF, ports)
