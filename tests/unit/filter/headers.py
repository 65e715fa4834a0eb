"""A test that pwru/filter/packet/skb.py and find_headers() in bpf/ find the same headers of the same skbs."""

from __future__ import annotations

import os
import struct
from random import Random
from typing import NamedTuple

from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Insn
from pwru.filter.packet.classic import REJECT
from pwru.filter.packet.pcap import Programs
from pwru.filter.packet.skb import ETH_HLEN, MAC_UNSET, filter_packet

from . import harness
from .in_kernel import InKernel

SEED = int(os.environ.get("PWRU_FILTER_SEED", Random().randrange(1 << 32)))
LENGTH_IS_FIRST_WORD = [Insn(0x80, 0, 0, 0), Insn(0x07, 0, 0, 0), Insn(0x20, 0, 0, 0)]  # ld len; tax; ld [0]
LENGTH_IS_FIRST_WORD += [Insn(0x1D, 0, 1, 0), Insn(0x06, 0, 0, 1), REJECT]  # jeq x; ret #1; ret #0

NO_HEADERS = 0xFFFFFFFF  # -1

# The memory has room for this many skbs (their first bytes, which have the fields that are read) with a packet each.
COUNT, SKB_SIZE, PACKET_SIZE = 8, 256, 220


class Offsets(NamedTuple):
    """The headers of an skb, counted from head."""

    mac: int
    network: int
    data: int
    tail: int
    len: int

    def length(self, start: int) -> int:
        """Return the packet's length from there on."""
        return self.len + self.data - start


def random_offsets(rng: Random) -> Offsets:
    """Return headers that are set or not; a MAC header right before the network header, before tags or further back."""
    start = rng.randrange(8, 32)
    mac = rng.choice([0, MAC_UNSET, start, start])
    between = rng.choice([*range(ETH_HLEN - 1, ETH_HLEN + harness.max_tags() + 2), -4, 0, 34, 54])
    network = rng.choice([0, start + between, start + between])
    if not mac and network:
        network += 100  # no network header is so near to head that a MAC header could be there
    data = rng.choice([start, start + ETH_HLEN, start + 34])
    tail = max(start, network, data) + rng.randrange(4, 30)
    return Offsets(mac, network, data, tail, rng.randrange(1000, 1 << 16))


class Headers(InKernel):
    def test_the_filter_and_c_find_the_same_headers(self, image: bytes, cast: RdonlyCast | None) -> None:
        print(f"PWRU_FILTER_SEED={SEED}")  # shown for a test that fails
        rng = Random(SEED)
        for _ in range(20):
            offsets = [random_offsets(rng) for _ in range(COUNT)]
            l2, by_c = run(image, Programs(LENGTH_IS_FIRST_WORD, [REJECT]), cast, offsets)
            l3, _ = run(image, Programs([REJECT], LENGTH_IS_FIRST_WORD), cast, offsets)
            for each, *found, (length, has_mac, network) in zip(offsets, l2, l3, by_c, strict=True):
                # Without a network header C takes the packet at data; the filter leaves it to the socket.
                assert found == ([has_mac, not has_mac] if network else [NO_HEADERS, NO_HEADERS]), each
                assert length == each.length(each.mac if has_mac else network or each.data), each


def run(
    image: bytes, programs: Programs, cast: RdonlyCast | None, offsets: list[Offsets]
) -> tuple[list[int], list[tuple[int, bool, int]]]:
    """Return the verdicts of the filter, and the length, has_mac and the network header by C."""
    layout = harness.layout_of_this_kernel()
    skbs = [harness.SKBS_DATA + index * SKB_SIZE for index in range(len(offsets))]

    def memory(address: int) -> bytes:
        memory = bytearray(harness.SKBS_SIZE)
        for index, (skb, each) in enumerate(zip(skbs, offsets, strict=True)):
            head = address + harness.SKBS_DATA + COUNT * SKB_SIZE + index * PACKET_SIZE
            struct.pack_into("=H", memory, skb + layout.network_header, each.network)
            struct.pack_into("=H", memory, skb + layout.mac_header, each.mac)
            struct.pack_into("=I", memory, skb + layout.tail, each.tail)
            struct.pack_into("=QQ", memory, skb + layout.head, head, head + each.data)
            struct.pack_into("=I", memory, skb + layout.len, each.len)
            # The bytes at each place where a header may be tell its length, whichever is taken.
            for start in {each.mac, each.network or each.data} - {0, MAC_UNSET}:
                struct.pack_into("!I", memory, head - address + start, each.length(start))
        return bytes(memory)

    code = {"filter_packet": filter_packet(programs, layout, cast, max_tags=harness.max_tags())}
    results = harness.run_on_skbs(image, "run_headers", code, skbs, memory)
    by_c = [(value >> 32, bool(value >> 16 & 1), value & 0xFFFF) for _, value in results]
    return [match for match, _ in results], by_c
