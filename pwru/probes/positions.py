"""The table from which the BPF programs learn which argument of a function is the skb: bpf/arguments.bpf.h.

A perfect hash by displacement: the upper bits of a product choose a bucket, and each bucket has a shift that moves its
addresses to slots where they disturb nobody. Addresses may share a slot that says the same of both.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.probes.instructions import replace_map

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object

_MAP = ".data.positions"
_BUCKETS = 1 << 11
_SLOTS = 1 << 14
_U64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / the golden ratio, odd: Knuth's multiplicative hashing
_LCG = 0xD1342543DE82EF95  # odd, from "Computationally easy, spectrally good multipliers" (Steele, Vigna 2021)
_POINTER, _REASON = 8, 16
_FREE = 0xFF


def position(target: Target) -> int:
    """The code of where its skb is, and whether a drop reason is behind it: SKB_ARG, SKB_ARG_POINTER and REASON_ARG."""
    code = target.skb_arg - 1 | (_POINTER if target.double_pointer else 0)
    return code | (_REASON if target.has_reason else 0)


def fill(bpf: Object, by_address: dict[int, Target]) -> None:
    """Tells the loaded programs where the skb is in each function, by the address that they see when it is hit."""
    bpf.map(_MAP).update(bytes(4), table(_codes(by_address)))


@contextmanager
def copy(bpf: Object, program: str, by_address: dict[int, Target]) -> Iterator[bytes]:
    """Instructions of the loaded program with a table of these functions only, which is there until it has been loaded.

    A table is never written while programs read it: all addresses may have moved in it.
    """
    own = libbpf.map_create_array(table(_codes(by_address)))
    try:
        yield replace_map(bpf.program(program).insns(), bpf.map(_MAP).fd, own)
    finally:
        os.close(own)  # the program holds it


def _codes(by_address: dict[int, Target]) -> dict[int, int]:
    return {address: position(target) for address, target in by_address.items()}


def table(positions: dict[int, int]) -> bytes:
    """`struct positions` for these addresses and their codes."""
    multiplier = _GOLDEN
    while not (found := _displace(positions, multiplier)):
        multiplier = multiplier * _LCG & _U64
    shifts, slots = found
    return struct.pack(f"=Q{_BUCKETS}H{_SLOTS}s", multiplier, *shifts, bytes(slots))


def _displace(positions: dict[int, int], multiplier: int) -> tuple[list[int], bytearray] | None:
    """None if two addresses with different codes cannot be told apart by this multiplier."""
    buckets: dict[int, dict[int, int]] = {}
    for address, code in positions.items():
        product = address * multiplier & _U64
        bucket = buckets.setdefault(product >> 53, {})
        if bucket.setdefault(product >> 32 & _SLOTS - 1, code) != code:
            return None
    shifts, slots = [0] * _BUCKETS, bytearray([_FREE] * _SLOTS)
    for bucket_index, bucket in sorted(buckets.items(), key=lambda item: -len(item[1])):
        for shift in range(_SLOTS):
            if all(slots[place + shift & _SLOTS - 1] in (_FREE, code) for place, code in bucket.items()):
                break
        else:
            return None
        shifts[bucket_index] = shift
        for place, code in bucket.items():
            slots[place + shift & _SLOTS - 1] = code
    return shifts, slots
