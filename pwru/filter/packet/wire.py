"""Loads at offsets of a frame on the wire, from a packet that lacks a part of it (Gap): byte by byte, as that may be
anywhere in or around what is loaded."""

from collections.abc import Callable

from pwru.ebpf import Alu, Assembler, Jump, Label, Reg, Size

from .classic import Gap

R0, R1, R2, R3, _, _, _, _, _, _, R10 = Reg
_SIZE = {2: Size.H, 4: Size.W}  # of what is in the gap


class Wire:
    """`held`: where the bytes of the gap are on the stack. `load_byte` emits the load of the packet's byte at the
    offset in r2, to r0; it may destroy r1 to r5.
    """

    def __init__(self, asm: Assembler, gap: Gap, held: int, load_byte: Callable[[], None]) -> None:
        self._asm = asm
        self._gap = gap
        self._held = held
        self._load_byte = load_byte

    def load(self, size: Size, register: Reg, k: int, x: Reg | None) -> None:
        """Load from the offset k, or x + k, to `register`, which calls preserve, as a number in host order."""
        asm = self._asm
        asm.alu32(Alu.MOV, register, 0)
        for at in range(k, k + size.nbytes):
            asm.alu32(Alu.LSH, register, 8)
            if x is None:
                asm.alu64(Alu.MOV, R2, at)
            else:
                asm.alu64(Alu.MOV, R2, x)
                asm.alu64(Alu.ADD, R2, at)
            self._load(register)

    def _load(self, register: Reg) -> None:
        asm, gap = self._asm, self._gap
        outside, done = Label(), Label()
        width = gap.end - gap.start
        if gap.missing > width:
            asm.jump64(Jump.LT, R2, gap.start, done)
        else:
            asm.jump64(Jump.LT, R2, gap.start, outside)
        after = Label()
        asm.jump64(Jump.GE, R2, gap.end, after)
        asm.load(_SIZE[width], R0, R10, self._held)
        asm.to_be(_SIZE[width], R0)
        asm.alu32(Alu.MOV, R3, gap.end - 1)
        asm.alu32(Alu.SUB, R3, R2)
        asm.alu32(Alu.LSH, R3, 3)
        asm.alu32(Alu.RSH, R0, R3)
        asm.alu32(Alu.AND, R0, 0xFF)
        asm.alu32(Alu.OR, register, R0)
        asm.goto(done)
        asm.place(after)
        asm.alu64(Alu.SUB, R2, gap.missing)
        asm.place(outside)
        self._load_byte()
        asm.alu32(Alu.OR, register, R0)
        asm.place(done)
