"""eBPF run in Python: the instructions that expressions are compiled to, and what a verifier would hold against them.

What calls destroy is None afterwards, and so is a register that was never written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

U64 = (1 << 64) - 1
STACK_SIZE = 224  # what bpf/filter.bpf.h promises to need
STACK = 0x5AC0000000000000
PROBE_READ_KERNEL = 113

Registers = list[int | None]


def _signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


_ALU: dict[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x50: lambda a, b: a & b,
    0x60: lambda a, b: a << b,
    0x70: lambda a, b: a >> b,
    0xB0: lambda _, b: b,
    0xC0: lambda a, b: _signed(a) >> b,
}
_JUMP: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0x50: lambda a, b: a != b,
    0x60: lambda a, b: _signed(a) > _signed(b),
    0x70: lambda a, b: _signed(a) >= _signed(b),
    0xA0: lambda a, b: a < b,
    0xB0: lambda a, b: a <= b,
    0xC0: lambda a, b: _signed(a) < _signed(b),
    0xD0: lambda a, b: _signed(a) <= _signed(b),
}


def run(code: bytes, argument: int, read: Callable[[int, int], bytes]) -> int:
    """r0 at the end; `read(address, size)` is the kernel's memory."""
    insns = list(struct.iter_unpack("<BBhi", code))
    registers: Registers = [None] * 10 + [STACK]
    registers[1] = argument
    stack: list[int | None] = [None] * STACK_SIZE
    at = 0
    while True:
        opcode, both, offset, immediate = insns[at]
        dst, src = both & 15, both >> 4
        at += 1
        match opcode & 7:
            case 0:  # a constant of 64 bits
                assert opcode == 0x18
                registers[dst] = (immediate & 0xFFFFFFFF) | (insns[at][3] & 0xFFFFFFFF) << 32
                at += 1
            case 1:
                assert opcode & 0xE0 == 0x60
                size = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}[opcode & 0x18]
                registers[dst] = int.from_bytes(_load(_known(registers, src) + offset, size, stack, read), "little")
            case 3:
                assert opcode == 0x7B  # 8 bytes
                value = _known(registers, src)
                _store(_known(registers, dst) + offset, value.to_bytes(8, "little"), stack)
            case 4 | 7 as kind:
                operand = _known(registers, src) if opcode & 8 else immediate & U64
                old = 0 if opcode & 0xF0 == 0xB0 else _known(registers, dst)
                registers[dst] = _ALU[opcode & 0xF0](old, operand) & (U64 if kind == 7 else 0xFFFFFFFF)
            case 5 if opcode == 0x85:
                _call(registers, src, immediate, stack, read)
            case 5 if opcode == 0x95:
                return _known(registers, 0)
            case 5:
                operand = _known(registers, src) if opcode & 8 else immediate & U64
                if _JUMP[opcode & 0xF0](_known(registers, dst), operand):
                    assert offset >= 0
                    at += offset
            case _:
                raise AssertionError(f"opcode {opcode:#x}")


def _known(registers: Registers, number: int) -> int:
    value = registers[number]
    assert value is not None, f"r{number} is read, which nothing was written to"
    return value


def _call(
    registers: Registers, kind: int, what: int, stack: list[int | None], read: Callable[[int, int], bytes]
) -> None:
    if kind == 2:  # the only kernel function is bpf_rdonly_cast()
        registers[0] = _known(registers, 1)
        _known(registers, 2)
    else:
        assert what == PROBE_READ_KERNEL
        to, size, address = (_known(registers, number) for number in (1, 2, 3))
        _store(to, read(address, size), stack)
        registers[0] = None
    registers[1:6] = [None] * 5


def _store(address: int, data: bytes, stack: list[int | None]) -> None:
    start = _signed(address - STACK) + STACK_SIZE
    assert 0 <= start <= STACK_SIZE - len(data), "beyond the stack"
    stack[start : start + len(data)] = data


def _load(address: int, size: int, stack: list[int | None], read: Callable[[int, int], bytes]) -> bytes:
    start = _signed(address - STACK) + STACK_SIZE
    if not 0 <= start < STACK_SIZE:
        return read(address, size)
    assert start % size == 0, "not aligned"
    found = [byte for byte in stack[start : start + size] if byte is not None]
    assert len(found) == size, "the stack is read, where nothing was written"
    return bytes(found)
