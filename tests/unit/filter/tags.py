"""Tests of filters that name VLAN tags: the same verdict as libpcap's, wherever the tag of a packet is kept."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import DLT_EN10MB, Programs, compile_expression, compile_filter
from pwru.filter.packet.skb import ETH_HLEN, Tag, filter_packet, filter_tagged, skb_layout
from pwru.kernel.btf import vmlinux_btf

from . import harness, packets
from .in_kernel import InKernel
from .parsers import ARP, COUNT, IP, IP6, QINQ, VLAN, Skb, run_filter, udp4, udp6
from .shorthands import meaning, parse

# What people give to tcpdump, and what looks at bytes around the tag.
IDIOMS = """
vlan|not vlan|vlan 5|vlan and not vlan 5|vlan 5 and vlan 6|vlan 6 and vlan
port 8 or (vlan and port 8)|udp port 8 and not vlan|not vlan and port 8|port 9 or (vlan and port 9)|vlan and port 8
host 10.0.0.1 or (vlan and host 10.0.0.1)|arp or (vlan and arp)|ip or (vlan 5 and ip)|vlan 5 or port 8|ip6 or vlan
port 8 or (vlan and port 8) or (vlan and port 8)|(port 7 or port 8) and not (vlan 5 or vlan 6)|vlan and not port 8
udp[4:2] = 28 or (vlan and udp[4:2] = 28)|vlan and udp[0:2] = 7 and ip[8] = 64|len = 66 or (vlan and len > 60)
udp[8:4] = 0 or (vlan and udp[8:4] = 0)|ether[12:4] = 0x81000005|ether[12:4] = 0x08004500|ether[11:4] & 0xff = 5
ether[10:4] & 0xffff = 0x8100|ether[13:2] = 0|ether[15] = 5|ether[15:2] = 0x0508|ether[14:4] = 0x00050800
vlan and ether[16:2] = 0x800|ether[ip[0] & 0xf:2] = 0|ether[12 + (ip[8] & 3):4] != 0|vlan and ether[ip[8] - 53:4] != 0
"""


class Case(NamedTuple):
    """A frame: its tags, and what comes after them."""

    tags: tuple[tuple[int, int], ...]
    kind: int
    payload: bytes

    def after(self, count: int) -> bytes:
        """Return the frame without the first tags."""
        tags = b"".join(struct.pack("!HH", *tag) for tag in self.tags[count:])
        return bytes(range(12)) + tags + struct.pack("!H", self.kind) + self.payload


def idioms() -> list[str]:
    return "|".join(IDIOMS.strip().splitlines()).split("|")


SHORTHANDS = ("dst port 8", "src port 7", "src host 10.0.0.1", "dst host ::2", "udp", "ip6")
TAGS = ((), ((VLAN, 5),), ((VLAN, 0x2006),), ((QINQ, 5), (VLAN, 6)), ((VLAN, 6), (VLAN, 5)))
PAYLOADS = ((IP, udp4()), (IP, udp4(ihl=7)), (IP, udp4(offset=9)), (IP6, udp6()), (ARP, bytes(28)), (0x1234, bytes(40)))
CASES = [Case(tags, kind, payload) for tags in TAGS for kind, payload in PAYLOADS]


class Tags(InKernel):
    every = 1  # to test only some of them, evenly

    def test_as_on_the_wire(self, image: bytes, cast: RdonlyCast | None) -> None:
        """In the packet's bytes, and in the skb."""
        layout, tag = harness.layout_of_this_kernel(), skb_layout(vmlinux_btf(), of=Tag)
        most = harness.max_tags()
        tagged = [case for case in CASES if case.tags]
        matched = 0
        for text in idioms()[:: self.every]:
            programs = compile_filter(Filter(text))
            in_bytes = filter_packet(programs, layout, cast, max_tags=most)
            in_skb = filter_tagged(programs, (layout, tag), cast, max_tags=most)
            for code, cases, missing in ((in_bytes, CASES, 0), (in_skb, tagged, 1)):
                skbs = [
                    Skb(case.after(missing), mac=0, network=ETH_HLEN, tag=case.tags[0] if missing else (0, 0))
                    for case in cases
                ]
                found = [match for match, _ in run_filter(image, code, skbs)]
                frames = [packets.Packet(case.after(0), len(case.after(0))) for case in cases]
                wanted = harness.libpcap_verdicts(programs.l2, frames)
                assert found == wanted, (text, missing)
                matched += sum(wanted)
        assert matched > COUNT * len(idioms()) / self.every

    def test_without_a_link_layer(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Such a packet has no tag, and zeros for addresses; what it carries is told by IP's version."""
        layout = harness.layout_of_this_kernel()
        cases = [Case((), kind, payload) for kind, payload in PAYLOADS if kind in (IP, IP6)]
        for text in idioms()[:: self.every]:
            insns = compile_expression(text, DLT_EN10MB)
            if "len" in text:  # counted from another header
                continue
            code = filter_packet(Programs(insns, []), layout, cast, max_tags=harness.max_tags())
            found = [match for match, _ in run_filter(image, code, [Skb(case.payload) for case in cases])]
            frames = [bytes(12) + case.after(0)[12:] for case in cases]
            wanted = harness.libpcap_verdicts(insns, [packets.Packet(frame, len(frame)) for frame in frames])
            assert found == wanted, text

    def test_with_shorthands(self, image: bytes, cast: RdonlyCast | None) -> None:
        """These look past all tags, wherever the first one is, and whatever the filter beside them says of tags."""
        layout, tag = harness.layout_of_this_kernel(), skb_layout(vmlinux_btf(), of=Tag)
        most = harness.max_tags()
        for text in ("vlan", "vlan 5 or not vlan"):
            for primitive in SHORTHANDS[:: self.every]:
                programs = compile_filter(Filter(text, (primitive,)))
                for missing in (0, 1):
                    cases = [case for case in CASES if len(case.tags) >= missing]
                    code = (
                        filter_tagged(programs, (layout, tag), cast, max_tags=most)
                        if missing
                        else filter_packet(programs, layout, cast, max_tags=most)
                    )
                    skbs = [
                        Skb(c.after(missing), mac=0, network=14, tag=c.tags[0] if missing else (0, 0)) for c in cases
                    ]
                    frames = [case.after(0) for case in cases]
                    by_libpcap = harness.libpcap_verdicts(
                        compile_expression(text, DLT_EN10MB), [packets.Packet(frame, len(frame)) for frame in frames]
                    )
                    wanted = [
                        verdict and meaning(primitive, parse(frame, has_mac=True))
                        for verdict, frame in zip(by_libpcap, frames, strict=True)
                    ]
                    assert [match for match, _ in run_filter(image, code, skbs)] == wanted, (text, primitive, missing)
                    assert any(wanted)
        packet = Skb(udp4())  # it has no link-layer header
        code = filter_packet(compile_filter(Filter("not vlan", ("dst port 8",))), layout, cast, max_tags=most)
        assert run_filter(image, code, [packet])[0][0]
