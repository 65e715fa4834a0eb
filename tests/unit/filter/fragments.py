"""Tests of filters on payload: what an skb has at head, in page fragments and in a list of skbs is one packet.

The pages are made up: a page's number is where it is in the kernel's memory, wherever that is mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import DLT_EN10MB, DLT_RAW, Programs, compile_expression, compile_filter
from pwru.filter.packet.skb import MAC_UNSET, Tag, filter_packet, filter_tagged, filter_whole, skb_layout
from pwru.kernel.btf import vmlinux_btf

from . import harness, packets
from .headers import SEED
from .in_kernel import InKernel
from .parsers import IP, IP6, START, VLAN, offset, tagged

PAGE = 4096
MEMORY = 0xFFFF800000000000  # all of the kernel's is after that
STRUCT_PAGES = 0xFFFFEA0000000000
STRUCT_PAGE = 64

# Where things are in the memory that the harness has.
SKB, OTHER, HEAD, OTHER_HEAD, FRAGMENTS = harness.SKBS_DATA, 528, 784, 1360, 1760
END, OTHER_END = 256, 64  # of the bytes from head on; then comes struct skb_shared_info

FILTERS = (
    *("udp[8:4] = 0x47455420", "udp[9:2] = 0x4554", "udp[28] = 0x2f", "udp[8:4] = 0x47455420 and dst port 8"),
    *("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "not tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420"),
    *("ip6[48:4] = 0x47455420", "ether[42:4] = 0x47455420", "len > 60 and udp[12:4] != 0", "udp[8:2] = 0x4745 or tcp"),
    *("ether src 0:0:0:0:0:0 and udp[8:4] = 0x47455420", "vlan and udp[8:4] = 0x47455420", "udp[60:4] & 1 = 1"),
    "udp[8:4] = 0x47455420 or (vlan and udp[8:4] = 0x47455420)",
)
KINDS = ("bare", "frame", "tagged")
REQUEST = b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n" + bytes(range(60))


class Split(NamedTuple):
    """A packet: what is at head, in fragments, at the head of another skb in the list, and in its fragments."""

    linear: bytes
    fragments: tuple[bytes, ...] = ()
    other: bytes = b""
    of_other: tuple[bytes, ...] = ()
    has_mac: bool = False
    tag: tuple[int, int] = (0, 0)


def datagram(version: int, protocol: int, data: bytes = REQUEST) -> bytes:
    ports = struct.pack("!HH", 7, 8)
    transport = ports + (struct.pack("!HH", 8 + len(data), 0) if protocol == 17 else bytes(8) + b"\x80\x18" + bytes(18))
    payload = transport + data
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + bytes(32) + payload
    return struct.pack("!BBHHHBBH8x", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + payload


def split(rng: Random, data: bytes, least: int, *, has_mac: bool, tag: tuple[int, int]) -> Split:
    """Cut anywhere after the headers; a piece may be empty."""
    cuts = sorted(rng.choice([least, len(data), rng.randint(least, len(data))]) for _ in range(6))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    linear, first, second, third, other, of_other, last = pieces
    # What is at the head of the other one has room for little.
    if len(other) > OTHER_END:
        return Split(linear, (first + second, third + other + of_other, last), b"", (), has_mac, tag)
    return Split(linear, (first, second, third), other, (of_other, last), has_mac, tag)


@cache
def tag_layout() -> list[int]:
    return skb_layout(vmlinux_btf(), of=Tag)


@cache
def place(name: str) -> int:
    shared = vmlinux_btf().struct("skb_shared_info")
    member = shared.member(name) if shared else None
    assert member
    return member.offset


class Memory:
    """What the harness's memory is filled with. `device`: the fragments are no memory of this machine."""

    def __init__(self, address: int, *, device: bool) -> None:
        self.data = bytearray(harness.SKBS_SIZE)
        self._address = address
        self._at = FRAGMENTS
        self._device = device

    def put(self, skb: int, head: int, pieces: tuple[bytes, Sequence[bytes]], *, start: int = 0, rest: int = 0) -> None:
        """Make an skb of what is at head and in fragments; `rest` more bytes are in the other one."""
        linear, fragments = pieces
        end = head + (END if skb == SKB else OTHER_END)
        length = len(linear) + sum(map(len, fragments)) + rest
        for name, kind, value in (
            *(
                ("head", "Q", self._address + head),
                ("data", "Q", self._address + head + start),
                ("end", "I", end - head),
            ),
            *(("tail", "I", start + len(linear)), ("len", "I", length), ("data_len", "I", length - len(linear))),
            *(("network_header", "H", start), ("mac_header", "H", MAC_UNSET)),
        ):
            struct.pack_into(f"={kind}", self.data, skb + offset(name), value)
        self.data[head + start : head + start + len(linear)] = linear
        for index, data in enumerate(fragments):
            number, rest_of = divmod(self._address + self._at - MEMORY, PAGE)
            page = STRUCT_PAGES + STRUCT_PAGE * number + self._device
            struct.pack_into("=QII", self.data, end + place("frags") + 16 * index, page, len(data), rest_of)
            self.data[self._at : self._at + len(data)] = data
            self._at += len(data) + 5
        self.data[end + place("nr_frags")] = len(fragments)
        if rest:
            struct.pack_into("=Q", self.data, end + place("frag_list"), self._address + OTHER)


def memory(split: Split, *, device: bool = False) -> Callable[[int], bytes]:
    def fill(address: int) -> bytes:
        memory = Memory(address, device=device)
        rest = len(split.other) + sum(map(len, split.of_other))
        memory.put(SKB, HEAD, (split.linear, split.fragments), start=START, rest=rest)
        memory.put(OTHER, OTHER_HEAD, (split.other, split.of_other))
        if split.has_mac:
            struct.pack_into("=HH", memory.data, SKB + offset("network_header"), START + 14, START)
        struct.pack_into("!H", memory.data, SKB + offset("vlan_proto"), split.tag[0])
        struct.pack_into("=H", memory.data, SKB + offset("vlan_tci"), split.tag[1])
        return bytes(memory.data)

    return fill


def run(
    image: bytes, cast: RdonlyCast | None, programs: Programs, splits: list[Split], *, device: bool = False
) -> list[bool]:
    layout, most = harness.layout_of_this_kernel(), harness.max_tags()
    in_skb = bool(splits[0].tag[0])
    code = {
        "filter_packet": filter_tagged(programs, (layout, tag_layout()), cast, max_tags=most, goes_beyond=True)
        if in_skb
        else filter_packet(programs, layout, cast, max_tags=most, goes_beyond=True),
        **filter_whole(programs, cast),
    }
    config = {"first_page": STRUCT_PAGES, "first_address": MEMORY, "page_size": PAGE}
    program = "run_tagged" if in_skb else "run_matches"
    memories = [memory(split, device=device) for split in splits]
    return [bool(match) for ((match, _),) in harness.run_on_batches(image, program, code, [SKB], memories, config)]


class Fragments(InKernel):
    each = 12

    def test_as_in_one_piece(self, image: bytes, cast: RdonlyCast | None) -> None:
        """With a link-layer header, with a tag that the bytes lack, and without a link-layer header."""
        print(f"PWRU_FILTER_SEED={SEED}")  # shown for a test that fails
        rng = Random(SEED)
        matched = 0
        for number, text in enumerate(FILTERS):
            programs = compile_filter(Filter(text))
            for kind in KINDS if "vlan" in text else (KINDS[number % 3],):
                splits, frames = [], []
                for _ in range(self.each):
                    version, protocol = rng.choice([4, 4, 6]), rng.choice([17, 17, 6])
                    data = datagram(version, protocol)
                    tag = (VLAN, 5) if kind == "tagged" else (0, 0)
                    mac = tagged(IP if version == 4 else IP6) if kind != "bare" else b""
                    least = len(mac) + (40 if version == 6 else 20) + (8 if protocol == 17 else 20)
                    splits.append(split(rng, mac + data, least, has_mac=bool(mac), tag=tag))
                    wire = mac[:12] + struct.pack("!HH", *tag) + mac[12:] if tag[0] else mac
                    # What has no link-layer header is one that the program makes up.
                    made_up = bytes(12) + struct.pack("!H", IP if version == 4 else IP6)
                    whole = (wire or (b"" if programs.l3 else made_up)) + data
                    frames.append(packets.Packet(whole, len(mac + data) + 4 * bool(tag[0])))
                insns = compile_expression(text, DLT_RAW if kind == "bare" and programs.l3 else DLT_EN10MB)
                wanted = harness.libpcap_verdicts(insns, frames)
                assert run(image, cast, programs, splits) == wanted, (text, kind, splits)
                matched += sum(wanted)
        assert matched > len(FILTERS) * self.each / 4

    def test_what_cannot_be_read(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Memory of a device, and bytes after the first 2048."""
        data = datagram(4, 17)
        programs = compile_filter(Filter("udp[8:4] = 0x47455420"))
        in_fragment = Split(data[:28], (data[28:],))
        assert run(image, cast, programs, [in_fragment, in_fragment]) == [True, True]
        assert run(image, cast, programs, [in_fragment], device=True) == [False]
        for at, wanted in ((2044, True), (2045, False)):
            long = datagram(4, 17, b"\x07" * 2030)
            reads = compile_filter(Filter(f"udp[{at - 20}:4] = 0x07070707"))
            assert run(image, cast, reads, [Split(long[:28], (long[28:],))]) == [wanted]
