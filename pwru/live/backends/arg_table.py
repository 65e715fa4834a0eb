"""The table from which the BPF programs learn which argument of a function is the skb: bpf/arguments.bpf.h.

Two tables, each by the upper bits of a product. Addresses may share a slot of the first that says the same of all of
them; those of a slot that cannot are in the second, whose multiplier is tried until it tells them apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import replace_map

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object

_MAP = ".data.positions"
_SLOTS, _AGAIN_SLOTS = 1 << 16, 1 << 14
_GOLDEN = 0x9E3779B1  # a prime near 2^32 / the golden ratio: Knuth's multiplicative hashing
_U32 = (1 << 32) - 1
_LCG = 0x915F77F5  # odd, from "Computationally easy, spectrally good multipliers" (Steele, Vigna 2021)
_POINTER, _REASON = 8, 16
_AGAIN = 0xFF


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
    slots = bytearray(_SLOTS)
    by_slot: dict[int, dict[int, int]] = {}
    for address, code in positions.items():
        by_slot.setdefault(_hash(address, _GOLDEN, _SLOTS), {})[address] = code
    apart: dict[int, int] = {}
    for slot, codes in by_slot.items():
        if len(set(codes.values())) == 1:
            slots[slot] = next(iter(codes.values()))
        else:
            slots[slot] = _AGAIN
            apart |= codes
    multiplier = _GOLDEN * _LCG & _U32
    while (again := _tell_apart(apart, multiplier)) is None:
        multiplier = multiplier * _LCG & _U32
    return struct.pack(f"=II{_SLOTS}s{_AGAIN_SLOTS}s", _GOLDEN, multiplier, bytes(slots), bytes(again))


def _hash(address: int, multiplier: int, slots: int) -> int:
    return (address * multiplier & _U32) * slots >> 32


def _tell_apart(positions: dict[int, int], multiplier: int) -> bytearray | None:
    """None if two addresses with different codes get the same slot."""
    found: dict[int, int] = {}
    for address, code in positions.items():
        if found.setdefault(_hash(address, multiplier, _AGAIN_SLOTS), code) != code:
            return None
    slots = bytearray(_AGAIN_SLOTS)
    for slot, code in found.items():
        slots[slot] = code
    return slots
