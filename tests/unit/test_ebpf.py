"""Instructions: their encoding, and patches that change one operand and nothing else.

The expected bytes are llvm-mc's (-triple bpfel -mcpu=v4) for the text beside them.
"""

from __future__ import annotations

import struct

import pytest

from pwru.ebpf import (
    R0,
    R1,
    R2,
    R6,
    R7,
    R9,
    R10,
    RETURN_0,
    Alu,
    Assembler,
    Jump,
    JumpTooFar,
    Label,
    Size,
    called,
    maps_passed,
    replace_constant,
    replace_map,
)
from pwru.errors import PwruError


def test_encoding() -> None:
    asm = Assembler()
    asm.alu64(Alu.MOV, R6, R1)
    asm.alu64(Alu.ADD, R1, -8)
    asm.alu32(Alu.MOV, R0, 0xFFFFFFFF)
    asm.alu32(Alu.DIV, R6, R7)
    asm.alu32(Alu.NEG, R6)
    asm.alu32(Alu.LSH, R7, 2)
    asm.to_be(Size.H, R6)
    asm.to_be(Size.W, R6)
    asm.load(Size.W, R6, R10, -16)
    asm.load(Size.B, R7, R0, 3)
    asm.store(Size.DW, R10, -24, 0)
    asm.store(Size.H, R10, -2, R2)
    asm.alu64(Alu.ARSH, R7, 56)
    asm.constant(R7, 0xABCDEF0123456789)
    asm.constant(R6, -2)
    asm.call(113)
    asm.call_kfunc(65486)
    asm.exit()
    assert asm.code().hex(" ", 8).split() == [
        "bf16000000000000",  # r6 = r1
        "07010000f8ffffff",  # r1 += -8
        "b4000000ffffffff",  # w0 = -1
        "3c76000000000000",  # w6 /= w7
        "8406000000000000",  # w6 = -w6
        "6407000002000000",  # w7 <<= 2
        "dc06000010000000",  # r6 = be16 r6
        "dc06000020000000",  # r6 = be32 r6
        "61a6f0ff00000000",  # r6 = *(u32 *)(r10 - 16)
        "7107030000000000",  # r7 = *(u8 *)(r0 + 3)
        "7a0ae8ff00000000",  # *(u64 *)(r10 - 24) = 0
        "6b2afeff00000000",  # *(u16 *)(r10 - 2) = r2
        "c707000038000000",  # r7 s>>= 56
        "1807000089674523",  # r7 = 0xabcdef0123456789 ll
        "0000000001efcdab",
        "18060000feffffff",  # r6 = -2 ll
        "00000000ffffffff",
        "8500000071000000",  # call 113
        "85200000ceff0000",  # call 65486, src_reg = BPF_PSEUDO_KFUNC_CALL
        "9500000000000000",  # exit
    ]


def test_jumps() -> None:
    asm = Assembler()
    back, forward = Label(), Label()
    asm.place(back)
    asm.jump32(Jump.GE, R6, 0x800, forward)
    asm.jump64(Jump.GT, R1, R9, forward)
    asm.jump64(Jump.SGT, R7, R9, forward)
    asm.jump64(Jump.SGE, R7, -5, forward)
    asm.jump64(Jump.SLT, R7, 7, forward)
    asm.jump64(Jump.SLE, R7, R9, forward)
    asm.goto(back)
    asm.place(forward)
    asm.exit()
    assert asm.code().hex(" ", 8).split() == [
        "3606060000080000",  # if w6 >= 2048 goto +6
        "2d91050000000000",  # if r1 > r9 goto +5
        "6d97040000000000",  # if r7 s> r9 goto +4
        "75070300fbffffff",  # if r7 s>= -5 goto +3
        "c507020007000000",  # if r7 s< 7 goto +2
        "dd97010000000000",  # if r7 s<= r9 goto +1
        "0500f9ff00000000",  # goto -7
        "9500000000000000",
    ]


@pytest.mark.parametrize(("distance", "fits"), [(0x7FFF, True), (0x8000, False)])
def test_longest_jump(distance: int, fits: bool) -> None:
    asm = Assembler()
    end = Label()
    asm.goto(end)
    for _ in range(distance):
        asm.exit()
    asm.place(end)
    asm.exit()
    if fits:
        assert asm.code()[:8].hex() == "0500ff7f00000000"
    else:
        with pytest.raises(JumpTooFar):
            asm.code()


def test_the_shortest_program() -> None:
    assert RETURN_0.hex(" ", 8).split() == ["b700000000000000", "9500000000000000"]  # r0 = 0; exit


# --- patches ---

_EXIT = struct.pack("<BBhI", 0x95, 0, 0, 0)


def _load(source: int, low: int, high: int = 0) -> bytes:
    """ld_imm64 of r1."""
    return struct.pack("<BBhI", 0x18, source << 4 | 1, 0, low) + struct.pack("<BBhI", 0, 0, 0, high)


def test_a_constant_is_replaced_in_both_halves() -> None:
    insns = _load(0, 0x11, 0x77) + _load(0, 0x11) + _EXIT
    assert replace_constant(insns, 0x77_0000_0011, 0xFEDCBA98_76543210) == (
        _load(0, 0x76543210, 0xFEDCBA98) + _load(0, 0x11) + _EXIT
    )


def test_a_second_half_is_no_instruction() -> None:
    second_half_like_a_load = struct.pack("<BBhI", 0x18, 0x10, 0, 5)
    insns = _load(0, 1)[:8] + second_half_like_a_load + _EXIT
    assert replace_map(insns, 5, 9) == insns


@pytest.mark.parametrize("insns", [_EXIT, _load(0, 7) * 2, _load(1, 7)])
def test_a_constant_that_is_not_there_once(insns: bytes) -> None:
    with pytest.raises(PwruError, match="does not belong to this version"):
        replace_constant(insns, 7, 8)


def test_a_map_is_replaced_wherever_it_is_used() -> None:
    insns = _load(1, 5) + _load(2, 5, 16) + _load(0, 5) + _load(1, 6) + _EXIT
    assert replace_map(insns, 5, 9) == _load(1, 9) + _load(2, 9, 16) + _load(0, 5) + _load(1, 6) + _EXIT


def test_what_a_program_calls_and_uses() -> None:
    """As the kernel tells a program's instructions: distances, ids, and what only looks like either."""
    insns = [
        struct.pack("<BBhiBBhi", 0x18, 0x11, 0, 7, 0, 0, 0, 0),  # r1 = the map with the id 7
        struct.pack("<BBhiBBhi", 0x18, 0x21, 0, 8, 0, 0, 0, 0x85),  # r1 = the data of map 8
        struct.pack("<BBhi", 0x85, 0x00, 0, 123456),  # call a helper
        struct.pack("<BBhi", 0x85, 0x20, 0, -4096),  # call a kernel function
        struct.pack("<BBhi", 0x85, 0x10, 3, 20),  # call a function of the program
        struct.pack("<BBhi", 0x85, 0x00, 0, 12),  # a tail call
        struct.pack("<BBhi", 0x85, 0x00, 0, 0),  # an address that the kernel hides
        RETURN_0,
    ]
    assert called(b"".join(insns)) == {123456, -4096}
    assert maps_passed(b"".join(insns)) == {7}
