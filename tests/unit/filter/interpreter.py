"""An interpreter for the eBPF instructions that filters are made of; it asserts what a verifier would check.

A register is None if it was never written, and after a call destroyed it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

U64 = (1 << 64) - 1
STACK_SIZE = 192  # what bpf/filter.bpf.h promises to need
STACK = 0x5AC0000000000000
PROBE_READ_KERNEL = 113

Registers = list[int | None]


def _signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


# Operands have no sign, and as many bits as the result.
_ALU: dict[int, Callable[[int, int], int]] = {
    0x00: lambda a, b: a + b,
    0x10: lambda a, b: a - b,
    0x20: lambda a, b: a * b,
    0x30: lambda a, b: a // b,  # by 0: the kernel would say 0, but nobody should ask
    0x40: lambda a, b: a | b,
    0x50: lambda a, b: a & b,
    0x60: lambda a, b: a << b,
    0x70: lambda a, b: a >> b,
    0x80: lambda a, _: -a,
    0x90: lambda a, b: a % b,
    0xA0: lambda a, b: a ^ b,
    0xB0: lambda _, b: b,
}
_SHIFTS = (0x60, 0x70, 0xC0)
_JUMP: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda a, b: a == b,
    0x20: lambda a, b: a > b,
    0x30: lambda a, b: a >= b,
    0x40: lambda a, b: a & b != 0,
    0x50: lambda a, b: a != b,
    0x60: lambda a, b: a > b,
    0x70: lambda a, b: a >= b,
    0xA0: lambda a, b: a < b,
    0xB0: lambda a, b: a <= b,
    0xC0: lambda a, b: a < b,
    0xD0: lambda a, b: a <= b,
}
_SIGNED_JUMPS = (0x60, 0x70, 0xC0, 0xD0)
_MOST_STEPS = 100_000  # more than any filter has instructions: it jumps back only to where it has not been


def run(code: bytes, argument: int, read: Callable[[int, int], bytes], *others: int) -> int:
    """Return r0 at the end of a function with these arguments; `read(address, size)` reads the kernel's memory."""
    insns = list(struct.iter_unpack("<BBhi", code))
    registers: Registers = [None] * 10 + [STACK]
    registers[1 : 2 + len(others)] = [argument, *others]
    stack: list[int | None] = [None] * STACK_SIZE
    at = 0
    for _ in range(_MOST_STEPS):
        opcode, both, offset, immediate = insns[at]
        dst, src = both & 15, both >> 4
        at += 1
        match opcode & 7:
            case 0:  # a constant of 64 bits
                assert opcode == 0x18
                registers[dst] = (immediate & 0xFFFFFFFF) | (insns[at][3] & 0xFFFFFFFF) << 32
                at += 1
            case 1:
                data = _load(_known(registers, src) + offset, _size(opcode), stack, read)
                registers[dst] = int.from_bytes(data, "little")
            case 2 | 3 as kind:
                size = _size(opcode)
                value = (_known(registers, src) if kind == 3 else immediate) & (1 << 8 * size) - 1
                _store(_known(registers, dst) + offset, value.to_bytes(size, "little"), stack)
            case 4 if opcode == 0xDC:  # to big-endian
                value = _known(registers, dst) & (1 << immediate) - 1
                registers[dst] = int.from_bytes(value.to_bytes(immediate // 8, "little"), "big")
            case 4 | 7 as kind:
                operand = _known(registers, src) if opcode & 8 else immediate
                old = 0 if opcode & 0xF0 == 0xB0 else _known(registers, dst)
                registers[dst] = _alu(opcode & 0xF0, old, operand, 64 if kind == 7 else 32)
            case 5 if opcode == 0x85:
                _call(registers, src, immediate, stack, read)
            case 5 if opcode == 0x95:
                return _known(registers, 0)
            case 5 | 6 as kind:
                bits = 64 if kind == 5 else 32
                operand = _known(registers, src) if opcode & 8 else immediate
                if opcode == 0x05 or _jumps(opcode & 0xF0, _known(registers, dst), operand, bits):
                    at += offset
            case _:
                raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("it loops")


def _jumps(condition: int, left: int, right: int, bits: int) -> bool:
    mask = (1 << bits) - 1
    left, right = left & mask, right & mask
    if condition in _SIGNED_JUMPS:
        left, right = _signed(left, bits), _signed(right, bits)
    return _JUMP[condition](left, right)


def _size(opcode: int) -> int:
    assert opcode & 0xE0 == 0x60
    return {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}[opcode & 0x18]


def _alu(operation: int, left: int, right: int, bits: int) -> int:
    mask = (1 << bits) - 1
    left, right = left & mask, right & mask
    if operation in _SHIFTS:
        right %= bits
    result = _signed(left, bits) >> right if operation == 0xC0 else _ALU[operation](left, right)
    return result & mask


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
