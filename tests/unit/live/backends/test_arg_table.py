"""The two tables: what bpf/arguments.bpf.h finds in it, by the same arithmetic."""

from __future__ import annotations

import random
import struct

from pwru.kernel.btf import read_btf
from pwru.kernel.functions import Target
from pwru.live.backends.arg_table import position, table
from tests.unit.records import OBJECT

SLOTS, AGAIN_SLOTS = 1 << 16, 1 << 14
AGAIN = 255


def find(data: bytes, address: int) -> int:
    multiplier, again = map(int, struct.unpack_from("=II", data))
    found = data[8 + (address * multiplier % 2**32 >> 16)]
    return found if found != AGAIN else data[8 + SLOTS + (address * again % 2**32 >> 18)]


def test_layout_is_that_of_the_object() -> None:
    layout = read_btf(OBJECT).struct("positions")
    assert layout is not None
    assert layout.size == len(table({}))
    slot, again = layout.member("slot"), layout.member("again")
    assert slot is not None
    assert again is not None
    assert (slot.offset, slot.elements, again.offset, again.elements) == (8, SLOTS, 8 + SLOTS, AGAIN_SLOTS)


def test_every_address_finds_its_position() -> None:
    rng = random.Random(1)
    for size in (1, 10, 1700, 6000):
        addresses = {0xFFFFFFFF81000000 + 16 * n for n in rng.sample(range(1 << 20), size)}
        codes = (0, 0, 0, 1, 2, 3, 4, 8, 9, 16)
        positions = {address + rng.choice((0, 6, 10)): rng.choice(codes) for address in addresses}
        data = table(positions)
        assert {address: find(data, address) for address in positions} == positions


def test_addresses_that_the_first_table_cannot_tell_apart_are_in_the_second() -> None:
    multiplier, _ = struct.unpack_from("=II", table({}))
    inverse = pow(multiplier, -1, 2**32)
    a, b = (product * inverse % 2**32 for product in (5 << 16 | 1, 5 << 16 | 2))
    data = table({a: 0, b: 1})
    assert data[8 + 5] == AGAIN
    assert (find(data, a), find(data, b)) == (0, 1)


def test_position() -> None:
    first = Target("f", 0, 1, 0, False, 7, None, False)
    assert position(first) == 0
    assert position(first._replace(skb_arg=3)) == 2
    assert position(first._replace(skb_arg=3, double_pointer=True)) == 10
    assert position(first._replace(skb_arg=2, reason_arg=3)) == 17
    assert position(first._replace(skb_arg=1, reason_arg=3)) == 0
