"""eBPF instructions: an assembler with labels, and patches for instructions that libbpf has prepared.

Encoding: RFC 9669 (BPF Instruction Set Architecture), include/uapi/linux/bpf.h. Little-endian, like the BPF object.

What a program must know about the one function or tracepoint that it is attached to is a constant in a template. libbpf
prepares the template once (CO-RE, maps, kernel functions); each patched copy costs only a load.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

from pwru.errors import PwruError

INSN_SIZE = 8
_INSN = struct.Struct("<BBhI")  # opcode, registers, offset, immediate

# Helpers, enum bpf_func_id
BPF_FUNC_tail_call = 12
BPF_FUNC_probe_read_kernel = 113  # since v5.5, commit 6ae08ae3dea2


class Reg(IntEnum):
    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg


class Size(IntEnum):
    """The width of a load or store: BPF_W, BPF_H, BPF_B and BPF_DW."""

    W, H, B, DW = 0x00, 0x08, 0x10, 0x18

    @property
    def nbytes(self) -> int:
        return {Size.B: 1, Size.H: 2, Size.W: 4, Size.DW: 8}[self]


class Alu(IntEnum):
    ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV, ARSH = range(0x00, 0xD0, 0x10)


class Jump(IntEnum):
    """Conditions; comparisons are unsigned, except for the names that begin with S."""

    EQ, GT, GE, SET, NE, LT, LE = 0x10, 0x20, 0x30, 0x40, 0x50, 0xA0, 0xB0
    SGT, SGE, SLT, SLE = 0x60, 0x70, 0xC0, 0xD0


# Instruction classes, source bit, mode, and source registers that give an immediate another meaning
_LD, _LDX, _ST, _STX, _ALU32, _JMP64, _JMP32, _ALU64 = range(8)
_SRC_REG, _MEM = 0x08, 0x60
_JA, _CALL, _EXIT, _END_TO_BE = 0x00, 0x80, 0x90, 0xD0
_LD_IMM64 = _LD | Size.DW
_PSEUDO_CALL, _PSEUDO_KFUNC_CALL = 1, 2  # of a function of the program; of one of the kernel
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 1, 2  # the descriptor of a map; of a map, to load the address of its data


class Label:
    """The target of jumps. `Assembler.place()` sets its place, before or after the jumps are emitted."""

    def __init__(self) -> None:
        self.index: int | None = None
        self.used = False


class JumpTooFar(Exception):
    """A jump over more than 32767 instructions, the most that its 16 bits can express."""


class Assembler:
    """A list of instructions; `code()` encodes them. A `Reg` operand is a register, a plain int an immediate."""

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
        """dst = (u32)dst op operand; clears the upper half of dst."""
        self._emit_operand(_ALU32 | op, dst, operand)

    def alu64(self, op: Alu, dst: Reg, operand: int = 0) -> None:
        """dst = dst op operand; an immediate is sign-extended."""
        self._emit_operand(_ALU64 | op, dst, operand)

    def constant(self, dst: Reg, value: int) -> None:
        """dst = value, 64 bits, signed or unsigned. Takes two slots; no jump may go to the second one."""
        self._emit(_LD_IMM64, dst, imm=value)
        self._emit(0, imm=value >> 32)

    def to_be(self, size: Size, dst: Reg) -> None:
        """Convert between host and big-endian order; clears the bits above `size`."""
        self._emit(_ALU32 | _END_TO_BE | _SRC_REG, dst, imm=size.nbytes * 8)

    def load(self, size: Size, dst: Reg, base: Reg, off: int) -> None:
        self._emit(_LDX | _MEM | size, dst, src=base, off=off)

    def store(self, size: Size, base: Reg, off: int, value: int) -> None:
        if isinstance(value, Reg):
            self._emit(_STX | _MEM | size, base, src=value, off=off)
        else:
            self._emit(_ST | _MEM | size, base, off=off, imm=value)

    def jump32(self, condition: Jump, left: Reg, right: int, target: Label) -> None:
        """Compare the lower halves. BPF_JMP32 exists since v5.1, commit 092ed0968bb6."""
        self._emit_operand(_JMP32 | condition, left, right, target)

    def jump64(self, condition: Jump, left: Reg, right: int, target: Label) -> None:
        """Compare all 64 bits; an immediate is sign-extended."""
        self._emit_operand(_JMP64 | condition, left, right, target)

    def goto(self, target: Label) -> None:
        self._emit(_JMP64 | _JA, target=target)

    def call(self, helper: int) -> None:
        """Call a helper: arguments in r1 to r5, which are lost; the result in r0."""
        self._emit(_JMP64 | _CALL, imm=helper)

    def call_kfunc(self, btf_id: int) -> None:
        """Call a kernel function by its id in vmlinux BTF; registers as for `call()`."""
        self._emit(_JMP64 | _CALL, src=_PSEUDO_KFUNC_CALL, imm=btf_id)

    def exit(self) -> None:
        self._emit(_JMP64 | _EXIT)

    def place(self, label: Label) -> None:
        """Set the label to the next instruction."""
        label.index = len(self._insns)

    def code(self) -> bytes:
        """Return the instructions, 8 bytes per slot. Raises JumpTooFar."""
        encoded = []
        for index, (opcode, registers, offset, immediate, target) in enumerate(self._insns):
            off = offset
            if target is not None:
                assert target.index is not None, "label not placed"
                off = target.index - index - 1
                if not -0x8000 <= off <= 0x7FFF:
                    raise JumpTooFar
            encoded.append(_INSN.pack(opcode, registers, off, immediate))
        return b"".join(encoded)


# The shortest program, to find out what the kernel permits: r0 = 0; exit.
RETURN_0 = _INSN.pack(_ALU64 | Alu.MOV, 0, 0, 0) + _INSN.pack(_JMP64 | _EXIT, 0, 0, 0)

# Loads the sixth word of its context, which only some contexts have.
LOAD_SIXTH_WORD = _INSN.pack(_LDX | _MEM | Size.DW, R0 | R1 << 4, 5 * 8, 0) + RETURN_0


def read_memory() -> bytes:
    """Return a program that calls bpf_probe_read_kernel()."""
    asm = Assembler()
    asm.alu64(Alu.MOV, R1, R10)
    asm.alu64(Alu.ADD, R1, -8)
    asm.alu64(Alu.MOV, R2, 8)
    asm.alu64(Alu.MOV, R3, 0)
    asm.call(BPF_FUNC_probe_read_kernel)
    return asm.code() + RETURN_0


def replace_constant(insns: bytes, old: int, new: int) -> bytes:
    """Put `new` into the only instruction that loads the 64-bit constant `old`. PwruError if there is not just one."""
    offsets = [
        offset
        for offset, source, low in _wide_loads(insns)
        if not source and low | _INSN.unpack_from(insns, offset + INSN_SIZE)[3] << 32 == old
    ]
    if len(offsets) != 1:
        raise PwruError("the BPF object does not belong to this version of pwru; rebuild it: make build")
    patched = bytearray(insns)
    struct.pack_into("<I", patched, offsets[0] + 4, new & 0xFFFFFFFF)
    struct.pack_into("<I", patched, offsets[0] + INSN_SIZE + 4, new >> 32)
    return bytes(patched)


def replace_map(insns: bytes, old_fd: int, new_fd: int) -> bytes:
    """Put another map wherever the instructions, as given to the kernel, use the map with descriptor `old_fd`."""
    patched = bytearray(insns)
    for offset, source, fd in _wide_loads(insns):
        if source in (_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE) and fd == old_fd:
            struct.pack_into("<I", patched, offset + 4, new_fd)
    return bytes(patched)


def called(insns: bytes) -> set[int]:
    """Return what the instructions call in the kernel, as it tells them of a loaded program: helpers, operations of
    maps, kernel functions; each as the distance from the symbol `__bpf_call_base`."""
    calls = set()
    for offset in range(0, len(insns), INSN_SIZE):
        opcode, registers, _, distance = _INSN.unpack_from(insns, offset)
        # A tail call is told as one of the helper that would do it, without a distance.
        if opcode == _JMP64 | _CALL and registers >> 4 != _PSEUDO_CALL and distance != BPF_FUNC_tail_call:
            calls.add((distance ^ 1 << 31) - (1 << 31))
    return calls - {0}  # an address that is hidden


def maps_passed(insns: bytes) -> set[int]:
    """Return the ids of the maps that a loaded program uses, as the kernel tells its instructions.

    Those of which it only uses the address of the data (global variables) are not among them.
    """
    return {map_id for _, source, map_id in _wide_loads(insns) if source == _PSEUDO_MAP_FD}


def _wide_loads(insns: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each load of 64 bits: byte offset, source register and lower half of the immediate."""
    offset = 0
    while offset < len(insns):
        opcode, registers, _, low = _INSN.unpack_from(insns, offset)
        if opcode == _LD_IMM64:
            yield offset, registers >> 4, low
            offset += INSN_SIZE
        offset += INSN_SIZE
