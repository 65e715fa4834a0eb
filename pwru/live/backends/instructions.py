"""Copies of a loaded program that differ in a constant or in a map.

What a program needs to know of the one function or tracepoint that it is attached to is a constant in a template; what
libbpf did to the template (CO-RE, maps, kernel functions) is done once, and each copy is only a load.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pwru.errors import PwruError

# r0 = 0; exit: a program to see with what is permitted.
NOTHING = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))

# The instruction that loads 64 bits takes two slots of 8 bytes: opcode, registers, offset, immediate.
_SLOT = struct.Struct("<BBhI")
_LD_IMM64 = 0x18
# What the source register says of the immediate: the descriptor of a map, or of the map with the address of its data.
_PSEUDO_MAP_FD = 1
_PSEUDO_MAP_VALUE = 2


def replace_constant(insns: bytes, old: int, new: int) -> bytes:
    """With `new` in the one instruction that loads the 64-bit constant `old`. PwruError if it is not there once."""
    places = [
        at for at, source, low in _loads(insns) if not source and low | _SLOT.unpack_from(insns, at + 8)[3] << 32 == old
    ]
    if len(places) != 1:
        raise PwruError("the BPF object does not belong to this version of pwru; rebuild it: make build")
    changed = bytearray(insns)
    struct.pack_into("<I", changed, places[0] + 4, new & 0xFFFFFFFF)
    struct.pack_into("<I", changed, places[0] + 12, new >> 32)
    return bytes(changed)


def replace_map(insns: bytes, old_fd: int, new_fd: int) -> bytes:
    """With another map in all places where the instructions use that of `old_fd`, as they were given to the kernel."""
    changed = bytearray(insns)
    for at, source, fd in _loads(insns):
        if source in (_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE) and fd == old_fd:
            struct.pack_into("<I", changed, at + 4, new_fd)
    return bytes(changed)


def _loads(insns: bytes) -> Iterator[tuple[int, int, int]]:
    """Where 64 bits are loaded: byte offset, source register and lower half of the immediate."""
    at = 0
    while at < len(insns):
        opcode, registers, _, low = _SLOT.unpack_from(insns, at)
        if opcode == _LD_IMM64:
            yield at, registers >> 4, low
            at += _SLOT.size
        at += _SLOT.size
