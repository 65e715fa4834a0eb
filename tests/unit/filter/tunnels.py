"""Tests of what a tunnel's packet carries: found in its bytes, or where the kernel noted it, and filtered."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import compile_filter
from pwru.filter.packet.skb import ETH_HLEN, filter_bytes

from .in_kernel import InKernel
from .parsers import IP, IP6, START, VLAN, Skb, run_program, tagged, udp4, udp6

TEB = 0x6558
FRAME = tagged(IP) + udp4(size=0)
INSIDE, INSIDE6 = udp4(size=0), udp6(size=0)


class Case(NamedTuple):
    """`mac`, `network`: where they are in the bytes after the outer IP header; None: nowhere."""

    protocol: int
    data: bytes
    mac: int | None = None
    network: int | None = None


def udp(port: int, header: bytes, carried: bytes) -> bytes:
    return struct.pack("!HHHH", 49152, port, 8 + len(header) + len(carried), 0) + header + carried


def gre(flags: int, kind: int, words: int, carried: bytes) -> bytes:
    return struct.pack("!HH", flags, kind) + bytes(4 * words) + carried


VXLAN, GBP, GPE = (
    bytes.fromhex("0800000000000700"),
    bytes.fromhex("8800123400000700"),
    bytes.fromhex("0c00000100000700"),
)
GENEVE, OPTIONS = struct.pack("!BBHI", 0, 0, TEB, 7 << 8), struct.pack("!BBHI", 2, 0x40, TEB, 7 << 8) + bytes(8)
CASES = {
    "vxlan": Case(17, udp(4789, VXLAN, FRAME), 16, 30),
    "vxlan, the old port": Case(17, udp(8472, VXLAN, FRAME), 16, 30),
    "vxlan, another port": Case(17, udp(5555, VXLAN, FRAME), 16, 30),
    "vxlan with a policy": Case(17, udp(4789, GBP, FRAME), 16, 30),
    "a tag inside": Case(17, udp(4789, VXLAN, tagged(VLAN, IP) + udp4(size=0)), 16, 34),
    "IPv6 inside": Case(17, udp(4789, VXLAN, tagged(IP6) + INSIDE6), 16, 30),
    "VXLAN-GPE": Case(17, udp(4790, GPE, INSIDE), None, 16),
    "VXLAN-GPE, a frame": Case(17, udp(4790, GPE[:3] + b"\3" + GPE[4:], FRAME), 16, 30),
    "VXLAN-GPE, something else": Case(17, udp(4790, GPE[:3] + b"\4" + GPE[4:], FRAME)),
    "geneve": Case(17, udp(6081, GENEVE, FRAME), 16, 30),
    "geneve, another port": Case(17, udp(5555, GENEVE, FRAME), 16, 30),
    "geneve with options": Case(17, udp(6081, OPTIONS, FRAME), 24, 38),
    "geneve, IP": Case(17, udp(6081, struct.pack("!BBHI", 0, 0, IP, 0), INSIDE), None, 16),
    "gre": Case(47, gre(0, IP, 0, INSIDE), None, 4),
    "gre, IPv6": Case(47, gre(0, IP6, 0, INSIDE6), None, 4),
    "gre with a key": Case(47, gre(0x2000, IP, 1, INSIDE), None, 8),
    "gre with all": Case(47, gre(0xB000, IP, 3, INSIDE), None, 16),
    "gretap": Case(47, gre(0, TEB, 0, FRAME), 4, 18),
    "pptp": Case(47, gre(0x2001, 0x880B, 1, INSIDE)),
    "gre with routing": Case(47, gre(0x4000, IP, 1, INSIDE)),
    "gre, MPLS": Case(47, gre(0, 0x8847, 1, INSIDE)),
    "ipip": Case(4, INSIDE, None, 0),
    "sit, ip6ip6": Case(41, INSIDE6, None, 0),
    "udp": Case(17, udp(53, b"12345678", FRAME)),
    "udp that looks like vxlan": Case(17, udp(5555, VXLAN, bytes(40))),
    "tcp": Case(6, struct.pack("!HH", 49152, 4789) + bytes(8) + VXLAN + FRAME),
    "cut": Case(17, udp(4789, VXLAN, FRAME[:10])),
    "encrypted": Case(50, bytes(8) + INSIDE),
}


def outer4(case: Case, *, offset: int = 0, ihl: int = 5) -> bytes:
    header = udp4(protocol=case.protocol, ihl=ihl, offset=offset, total=4 * ihl + len(case.data))
    return header[: 4 * ihl] + case.data


def outer6(case: Case) -> bytes:
    """With the option of ip6_tunnel's, a limit of encapsulations, and as the first fragment."""
    data = bytes((44, 0, 4, 1, 4, 1, 0, 0)) + bytes((case.protocol, 0, 0, 1)) + bytes(4) + case.data
    return struct.pack("!IHBB", 6 << 28, len(data), 60, 64) + bytes(15) + b"\1" + bytes(15) + b"\2" + data


def found(image: bytes, cast: RdonlyCast | None, skbs: list[Skb], l2: str = "", l3: str = "") -> list[tuple[bool, int]]:
    programs = compile_filter(Filter(inner_l2=l2, inner_l3=l3))
    code = {}
    if l2:
        code["filter_inner_l2"] = filter_bytes(programs.inner_l2, cast, bare=False)
    if l3:
        code["filter_inner_l3"] = filter_bytes(programs.inner_l3, cast, bare=True)
    return run_program(image, "run_tunnels", code, skbs)


class Tunnels(InKernel):
    def test_in_the_bytes(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Whatever is outside; and only what is found is filtered."""
        for make, length in ((outer4, 20), (lambda case: outer4(case, ihl=7), 28), (outer6, 56)):
            for frame in (True, False):
                mac = tagged(IP6 if make is outer6 else IP) if frame else b""
                begins = len(mac)
                skbs = [
                    Skb(mac + make(case), begins, 0 if frame else None, begins + length, IP6 if make is outer6 else IP)
                    for case in CASES.values()
                ]
                wanted = [
                    tuple(0 if at is None else START + begins + length + at for at in (case.mac, case.network))
                    for case in CASES.values()
                ]
                got = found(image, cast, skbs, l3="udp dst port 8")
                places = [(value >> 32, value & 0xFFFFFFFF) for _, value in got]
                assert dict(zip(CASES, places, strict=True)) == dict(zip(CASES, wanted, strict=True))
                assert all(match for match, _ in got)  # those of which nothing is known pass, too
                got = found(image, cast, skbs, l3="udp dst port 9")
                assert [match for match, _ in got] == [case.network is None for case in CASES.values()]
                got = found(image, cast, skbs, l2="ether dst 00:00:00:00:00:01")
                assert [match for match, _ in got] == [case.mac is None for case in CASES.values()]

    def test_a_later_fragment(self, image: bytes, cast: RdonlyCast | None) -> None:
        """It has no header of a tunnel, whatever its bytes look like."""
        skbs = [Skb(tagged(IP) + outer4(case, offset=100), ETH_HLEN, 0, 34) for case in CASES.values()]
        assert set(found(image, cast, skbs, l3="udp dst port 9")) == {(True, 0)}

    def test_where_the_kernel_noted_it(self, image: bytes, cast: RdonlyCast | None) -> None:
        """The bytes need not say so yet; what was not set does not count."""
        data = tagged(IP) + bytes(36) + FRAME
        skb = Skb(data, ETH_HLEN, 0, 34, inner=64, inner_mac=50)
        cases = {
            skb: (50, 64),
            skb._replace(inner_mac=None): (None, 64),
            skb._replace(inner_mac=60): (None, 64),
            skb._replace(inner=ETH_HLEN, inner_mac=0): (None, None),
        }
        got = found(image, cast, list(cases), l2="ether dst 00:00:00:00:00:01", l3="udp dst port 8")
        assert got == [
            (mac is None, (START + mac if mac else 0) << 32 | (START + network if network else 0))
            for mac, network in cases.values()
        ]
