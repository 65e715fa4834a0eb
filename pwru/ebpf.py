"""An assembler for eBPF: instruction encoding and labels, no more.

Encoding: RFC 9669 (BPF Instruction Set Architecture), include/uapi/linux/bpf.h. Little-endian machines only, as the
object that the code goes into.
"""

from __future__ import annotations

import struct
from enum import IntEnum

INSN_SIZE = 8

# Helpers, enum bpf_func_id
BPF_FUNC_probe_read_kernel = 113  # since v5.5, commit 6ae08ae3dea2


class Reg(IntEnum):
    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg


class Size(IntEnum):
    """Of a load or store: BPF_B, BPF_H, BPF_W and BPF_DW, with the bytes of each in `nbytes`."""

    W, H, B, DW = 0x00, 0x08, 0x10, 0x18

    @property
    def nbytes(self) -> int:
        return {Size.B: 1, Size.H: 2, Size.W: 4, Size.DW: 8}[self]


class Alu(IntEnum):
    ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV, ARSH = range(0x00, 0xD0, 0x10)


class Jump(IntEnum):
    """Conditions; comparisons are unsigned but for those with an S."""

    EQ, GT, GE, SET, NE, LT, LE = 0x10, 0x20, 0x30, 0x40, 0x50, 0xA0, 0xB0
    SGT, SGE, SLT, SLE = 0x60, 0x70, 0xC0, 0xD0


# Instruction classes, source bit, mode and pseudo source registers
_LD, _LDX, _ST, _STX, _ALU32, _JMP64, _JMP32, _ALU64 = range(8)
_SRC_REG, _MEM = 0x08, 0x60
_JA, _CALL, _EXIT, _END_TO_BE = 0x00, 0x80, 0x90, 0xD0
_PSEUDO_KFUNC_CALL = 2


class Label:
    """A place to jump to: `Assembler.place()` says where it is, before or after the jumps to it."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.used = False


class JumpTooFar(Exception):
    """A jump over more than the 32767 instructions that its 16 bits can say."""


class Assembler:
    """Collects instructions; `code()` is their encoding. A `Reg` operand is a register, a plain int an immediate."""

    def __init__(self) -> None:
        self._insns: list[tuple[int, int, int, int, Label | None]] = []  # opcode, registers, offset, immediate, target

    def __len__(self) -> int:
        return len(self._insns)

    def _emit(
        self, opcode: int, dst: int = 0, *, src: int = 0, off: int = 0, imm: int = 0, target: Label | None = None
    ) -> None:
        if target:
            target.used = True
        self._insns.append((opcode, dst | src << 4, off, imm & 0xFFFFFFFF, target))

    def _emit_operand(self, opcode: int, dst: Reg, operand: int, target: Label | None = None) -> None:
        if isinstance(operand, Reg):
            self._emit(opcode | _SRC_REG, dst, src=operand, target=target)
        else:
            self._emit(opcode, dst, imm=operand, target=target)

    def alu32(self, op: Alu, dst: Reg, operand: int = 0) -> None:
        """dst = (u32)dst op operand, the upper half of dst is cleared."""
        self._emit_operand(_ALU32 | op, dst, operand)

    def alu64(self, op: Alu, dst: Reg, operand: int = 0) -> None:
        """dst = dst op operand; an immediate is sign-extended."""
        self._emit_operand(_ALU64 | op, dst, operand)

    def constant(self, dst: Reg, value: int) -> None:
        """dst = value, of 64 bits with or without a sign; takes two instructions, which no jump may part."""
        self._emit(_LD | Size.DW, dst, imm=value)
        self._emit(0, imm=value >> 32)

    def to_be(self, size: Size, dst: Reg) -> None:
        """Between host and big-endian order; what is above `size` is cleared."""
        self._emit(_ALU32 | _END_TO_BE | _SRC_REG, dst, imm=size.nbytes * 8)

    def load(self, size: Size, dst: Reg, base: Reg, off: int) -> None:
        self._emit(_LDX | _MEM | size, dst, src=base, off=off)

    def store(self, size: Size, base: Reg, off: int, value: int) -> None:
        if isinstance(value, Reg):
            self._emit(_STX | _MEM | size, base, src=value, off=off)
        else:
            self._emit(_ST | _MEM | size, base, off=off, imm=value)

    def jump32(self, condition: Jump, left: Reg, right: int, target: Label) -> None:
        """Compares the lower halves; BPF_JMP32 is there since v5.1, commit 092ed0968bb6."""
        self._emit_operand(_JMP32 | condition, left, right, target)

    def jump64(self, condition: Jump, left: Reg, right: int, target: Label) -> None:
        """An immediate is sign-extended."""
        self._emit_operand(_JMP64 | condition, left, right, target)

    def goto(self, target: Label) -> None:
        self._emit(_JMP64 | _JA, target=target)

    def call(self, helper: int) -> None:
        """Arguments in r1 to r5, which are lost, the result in r0."""
        self._emit(_JMP64 | _CALL, imm=helper)

    def call_kfunc(self, btf_id: int) -> None:
        """A kernel function by its id in vmlinux BTF; registers as for `call()`."""
        self._emit(_JMP64 | _CALL, src=_PSEUDO_KFUNC_CALL, imm=btf_id)

    def exit(self) -> None:
        self._emit(_JMP64 | _EXIT)

    def place(self, label: Label) -> None:
        """The label stands for the next instruction."""
        label.index = len(self._insns)

    def code(self) -> bytes:
        """The instructions, 8 bytes each. Raises JumpTooFar; a label that was not placed is a programming error."""
        encoded = []
        for index, (opcode, registers, offset, immediate, target) in enumerate(self._insns):
            off = offset
            if target is not None:
                assert target.index is not None, "label not placed"
                off = target.index - index - 1
                if not -0x8000 <= off <= 0x7FFF:
                    raise JumpTooFar
            encoded.append(struct.pack("<BBhI", opcode, registers, off, immediate))
        return b"".join(encoded)
