"""The table in which the BPF programs look up which argument of a function is the skb: bpf/arguments.bpf.h.

Two tables, each indexed by the upper bits of a product of the function's address. Addresses may share a slot of the
first table if they have the same code. Others go to the second, whose multiplier is changed until it tells them apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import replace_map
from pwru.live.program import Program
from pwru.record.layout import Wire

if TYPE_CHECKING:
    from pwru.kernel.functions import Target

_MAX_ARGS = 5  # of a function that function_arg() in bpf/arguments.bpf.h reads
_MAP = ".data.arg_table"
_GOLDEN = 0x9E3779B1  # a prime near 2^32 / the golden ratio: Knuth's multiplicative hashing
_U32 = (1 << 32) - 1
_LCG = 0x915F77F5  # odd, from "Computationally easy, spectrally good multipliers" (Steele, Vigna 2021)


def load_args(program: Program, by_address: Mapping[int, Target]) -> None:
    """Fill the loaded program's table: where the skb is in each function, by the address that the program sees."""
    program.map(_MAP).update(bytes(4), encode(program.wire, _codes(program.wire, by_address)))


@contextmanager
def with_own_table(program: Program, by_address: Mapping[int, Target]) -> Iterator[bytes]:
    """Yield the instructions of the loaded program with a table of these functions only.

    The table lasts until the instructions have been loaded. One in use is never written: addresses move in it.
    """
    own = libbpf.map_create_array(encode(program.wire, _codes(program.wire, by_address)))
    try:
        yield replace_map(program.insns(), program.map(_MAP).fd, own)
    finally:
        os.close(own)  # the program holds it


def code_of(wire: Wire, target: Target) -> int:
    """Return the enum arg_code of a function: where its skb and its socket are, whether a drop reason follows."""
    if target.code:
        return wire.constant(target.code)
    if target.role:
        return role_code(wire, target.role, silent=target.silent)
    code = (target.skb_arg - 1) * wire.constant("SKB_ARG_UNIT")
    code |= wire.constant("SKB_ARG_POINTER") if target.double_pointer else 0
    code |= wire.constant("REASON_ARG") if target.has_reason else 0
    return code | (target.sock_arg if target.sock_arg <= _MAX_ARGS else 0)


def role_code(wire: Wire, role: str, *, silent: bool = False) -> int:
    """Return the enum arg_code of a function with this role, which says where its skb is."""
    return wire.constant("ROLE_CODE") + wire.constant(role) + (wire.constant("ROLE_SILENT") if silent else 0)


def _codes(wire: Wire, by_address: Mapping[int, Target]) -> dict[int, int]:
    return {address: code_of(wire, target) for address, target in by_address.items()}


def encode(wire: Wire, codes: Mapping[int, int]) -> bytes:
    """Return `struct arg_table` for these addresses and their codes."""
    layout, overflow_code = wire.layout("arg_table"), wire.constant("ARG_OVERFLOW")
    slots, overflow_slots = bytearray(layout.size_of("slot")), layout.size_of("overflow")
    by_slot: dict[int, dict[int, int]] = {}
    for address, code in codes.items():
        by_slot.setdefault(_hash(address, _GOLDEN, len(slots)), {})[address] = code
    colliding: dict[int, int] = {}
    for slot, of_slot in by_slot.items():
        if len(set(of_slot.values())) == 1:
            slots[slot] = next(iter(of_slot.values()))
        else:
            slots[slot] = overflow_code
            colliding |= of_slot
    multiplier = _GOLDEN * _LCG & _U32
    while (overflow := _tell_apart(colliding, multiplier, overflow_slots)) is None:
        multiplier = multiplier * _LCG & _U32
    return layout.pack(
        {"multiplier": _GOLDEN, "overflow_multiplier": multiplier, "slot": bytes(slots), "overflow": bytes(overflow)}
    )


def _hash(address: int, multiplier: int, slots: int) -> int:
    return (address * multiplier & _U32) * slots >> 32


def _tell_apart(codes: Mapping[int, int], multiplier: int, count: int) -> bytearray | None:
    """Return the slots; None if two addresses with different codes get the same one."""
    by_slot: dict[int, int] = {}
    for address, code in codes.items():
        if by_slot.setdefault(_hash(address, multiplier, count), code) != code:
            return None
    slots = bytearray(count)
    for slot, code in by_slot.items():
        slots[slot] = code
    return slots
