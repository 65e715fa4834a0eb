"""The two tables: lookups by the arithmetic of bpf/arguments.bpf.h find every code."""

from __future__ import annotations

import random

from pwru.kernel.functions import Target
from pwru.live.backends.arg_table import code_of, encode
from pwru.record.layout import Wire

SLOT_BITS, OVERFLOW_BITS = 16, 14


def find(wire: Wire, data: bytes, address: int) -> int:
    table = wire.layout("arg_table").unpack(data)
    code: int = table.slot[address * table.multiplier % 2**32 >> (32 - SLOT_BITS)]
    if code != wire.constant("ARG_OVERFLOW"):
        return code
    overflow: int = table.overflow[address * table.overflow_multiplier % 2**32 >> (32 - OVERFLOW_BITS)]
    return overflow


def test_the_tables_have_as_many_slots_as_the_arithmetic_reaches(wire: Wire) -> None:
    layout = wire.layout("arg_table")
    assert layout.size == len(encode(wire, {}))
    assert (layout.size_of("slot"), layout.size_of("overflow")) == (1 << SLOT_BITS, 1 << OVERFLOW_BITS)


def test_every_address_finds_its_code(wire: Wire) -> None:
    rng = random.Random(1)
    for size in (1, 10, 1700, 6000):
        addresses = {0xFFFFFFFF81000000 + 16 * n for n in rng.sample(range(1 << 20), size)}
        some_codes = (0, 0, 0, 1, 2, 3, 4, 8, 9, 16)
        codes = {address + rng.choice((0, 6, 10)): rng.choice(some_codes) for address in addresses}
        data = encode(wire, codes)
        assert {address: find(wire, data, address) for address in codes} == codes


def test_addresses_that_the_first_table_cannot_tell_apart_are_in_the_second(wire: Wire) -> None:
    layout = wire.layout("arg_table")
    inverse = pow(layout.unpack(encode(wire, {})).multiplier, -1, 2**32)
    a, b = (product * inverse % 2**32 for product in (5 << 16 | 1, 5 << 16 | 2))
    data = encode(wire, {a: 0, b: 1})
    assert layout.unpack(data).slot[5] == wire.constant("ARG_OVERFLOW")
    assert (find(wire, data, a), find(wire, data, b)) == (0, 1)


def test_code(wire: Wire) -> None:
    first = Target("f", 0, 1, 0, False, 7, None, False)
    assert code_of(wire, first) == 0
    assert code_of(wire, first._replace(skb_arg=3)) == 2 << 5
    assert code_of(wire, first._replace(skb_arg=3, double_pointer=True)) == 2 << 5 | 16
    assert code_of(wire, first._replace(skb_arg=2, reason_arg=3)) == 1 << 5 | 8
    assert code_of(wire, first._replace(skb_arg=1, reason_arg=3)) == 0
    assert code_of(wire, first._replace(skb_arg=3, sock_arg=2)) == 2 << 5 | 2
    assert code_of(wire, first._replace(sock_arg=5)) == 5
    assert code_of(wire, first._replace(sock_arg=6)) == 0  # out of reach


def test_codes_do_not_overlap(wire: Wire) -> None:
    """Of the arguments that programs can read, of roles, and the sign of an overflow."""
    last = Target("f", 0, 5, 6, True, 7, None, False, 5)
    roles = [name for name in wire.enum("role") if name not in ("ROLE_NONE", "ROLE_SECOND", "ROLE_PAIR")]
    codes = [code_of(wire, last._replace(role=role, silent=silent)) for role in roles for silent in (False, True)]
    assert code_of(wire, last) < wire.constant("ROLE_CODE") < min(codes)
    assert len(set(codes)) == len(codes)
    assert max(codes) < wire.constant("ARG_OVERFLOW")
