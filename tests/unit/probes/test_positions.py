"""The perfect hash: what bpf/arguments.bpf.h finds in it, by the same arithmetic."""

from __future__ import annotations

import random
import struct

from pwru.kernel.btf import Btf
from pwru.kernel.functions import Target
from pwru.probes.positions import position, table

from ..records import OBJECT

BUCKETS, SLOTS = 2048, 16384


def find(data: bytes, address: int) -> int:
    multiplier, *shifts = map(int, struct.unpack_from(f"=Q{BUCKETS}H", data))
    product = address * multiplier % 2**64
    slot = (product // 2**32 + int(shifts[product // 2**53])) % SLOTS
    return data[8 + 2 * BUCKETS + slot]


def test_layout_is_that_of_the_object() -> None:
    layout = Btf.from_file(OBJECT).struct("positions")
    assert layout is not None
    assert layout.size == len(table({}))
    shift, slot = layout.member("shift"), layout.member("slot")
    assert shift is not None
    assert slot is not None
    assert (shift.offset, shift.elements, slot.offset, slot.elements) == (8, BUCKETS, 8 + 2 * BUCKETS, SLOTS)


def test_every_address_finds_its_position() -> None:
    rng = random.Random(1)
    for size in (1, 10, 1700, 6000):
        addresses = {0xFFFFFFFF81000000 + 16 * n for n in rng.sample(range(1 << 20), size)}
        codes = (0, 0, 0, 1, 2, 3, 4, 8, 9, 16)
        positions = {address + rng.choice((0, 6, 10)): rng.choice(codes) for address in addresses}
        data = table(positions)
        assert {address: find(data, address) for address in positions} == positions


def test_addresses_in_one_bucket_that_cannot_be_moved_apart_change_the_multiplier() -> None:
    """Equal in all bits that the first multiplier looks at, with different codes."""
    first = 0x9E3779B97F4A7C15
    inverse = pow(first, -1, 2**64)
    a, b = (product * inverse % 2**64 for product in (5 << 53 | 1, 5 << 53 | 2))
    data = table({a: 0, b: 1})
    assert struct.unpack_from("=Q", data)[0] != first
    assert (find(data, a), find(data, b)) == (0, 1)


def test_position() -> None:
    first = Target("f", 0, 1, 0, False, 2, 7, None, False)
    assert position(first) == 0
    assert position(first._replace(skb_arg=3)) == 2
    assert position(first._replace(skb_arg=3, double_pointer=True)) == 10
    assert position(first._replace(skb_arg=2, reason_arg=3)) == 17
    assert position(first._replace(skb_arg=1, reason_arg=3)) == 0
