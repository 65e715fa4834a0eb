"""Classic BPF to eBPF: the body of `int filter(__u64 data, __u32 caplen, __u32 len)`, see bpf/filter.bpf.h.

The meaning of a program is what libpcap's bpf_filter() makes of it: 32-bit unsigned arithmetic, a load that is not
inside the first `caplen` bytes rejects, offsets do not wrap around, division by zero rejects, shifts by 32 or more
give 0. What is read is only the packet, through helpers that survive any address; unreadable memory reads as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from pwru.errors import PwruError

from .ebpf import (
    R0,
    R1,
    R2,
    R3,
    R6,
    R7,
    R8,
    R9,
    R10,
    Alu,
    Assembler,
    BPF_FUNC_probe_read_kernel,
    Jump,
    JumpTooFar,
    Label,
    Reg,
    Size,
)
from .load import ARRAY_AT, ARRAY_SIZE, Cast, call_cast, lead, load
from .pcap import Insn, Programs


# Opcodes of classic BPF (pcap/bpf.h). Sizes, ALU operations and jump conditions have the numbers that eBPF gives them.
class _Class(IntEnum):
    LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)


class _Mode(IntEnum):
    """Of LD and LDX."""

    IMM, ABS, IND, MEM, LEN, MSH = range(0x00, 0xC0, 0x20)


_X = 0x08
_RET_A = 0x10
_TXA = 0x80

# Where the address of the packet is on the stack while a register has what a cast made of it.
_ADDRESS = -8

_WINDOW_MAX = 128
_MAX_OFFSET = 0x7FFFFFFF  # no packet is that long (skb->len is less than 2 GB), and immediates are signed


def stubs(programs: Programs, cast: Cast | None) -> dict[str, bytes]:
    """The bodies of the stubs of bpf/filter.bpf.h, by name. Raises PwruError as translate()."""
    return {"filter_l2": translate(programs.l2, cast), "filter_l3": translate(programs.l3, cast)}


def loads_len(programs: Programs) -> bool:
    """Whether the filter looks at the packet's length, which is a load more for every packet."""
    return any(_mode(insn) is _Mode.LEN for program in programs for insn in program)


def translate(insns: Sequence[Insn], cast: Cast | None) -> bytes:
    """The eBPF instructions of a classic BPF program.

    Without `cast`: the loads at constant offsets are served from the stack, where one bpf_probe_read_kernel() puts the
    stretch of the packet that they need; each other load is a call of its own. Runs since v5.5.
    With `cast`: each load is direct, after bpf_rdonly_cast(), which the verifier inlines (since v6.2, commit
    a35b9af4ec2c ("bpf: Add a kfunc for generic type cast")); one cast serves all loads from the first 126 bytes.

    Raises PwruError for a program with a loop or one too long.
    """
    return _Translator(insns, cast).run()


def _mode(insn: Insn) -> _Mode | None:
    """How LD or LDX finds its operand; None for other instructions."""
    return _Mode(insn.code & 0xE0) if insn.code & 7 in (_Class.LD, _Class.LDX) else None


def _uses_x(insn: Insn) -> bool:
    match _Class(insn.code & 7):
        case _Class.LD:
            return _mode(insn) is _Mode.IND
        case _Class.ALU | _Class.JMP:
            return bool(insn.code & _X)
        case kind:
            return kind in (_Class.LDX, _Class.STX, _Class.MISC)


def _is_far(insn: Insn) -> bool:
    """A load that is not inside what one cast gives access to."""
    return _mode(insn) in (_Mode.ABS, _Mode.MSH) and insn.k + Size(insn.code & 0x18).nbytes > ARRAY_SIZE


class _Window:
    """The bytes [start, end) of the packet on the stack, from r10 + base on; `covers()` what lies inside."""

    def __init__(self, loads: Sequence[tuple[int, Size]], top: int) -> None:
        self.start = min(k for k, _ in loads)
        inside = [(k, size) for k, size in loads if k + size.nbytes - self.start <= _WINDOW_MAX]
        self.end = max(k + size.nbytes for k, size in inside)
        # The verifier wants loads from the stack aligned; IP addresses behind an Ethernet header are not. Begin the
        # window where the fewest are misaligned.
        length = self.end - self.start
        self.base = min(
            range(-length - top, -length - top - 4, -1),
            key=lambda base: sum((base + k - self.start) % size.nbytes != 0 for k, size in inside),
        )
        self.bottom = self.base & ~7

    def covers(self, k: int, size: Size) -> bool:
        return self.start <= k and k + size.nbytes <= self.end


class _Translator:
    def __init__(self, insns: Sequence[Insn], cast: Cast | None) -> None:
        self._insns = insns
        self._cast = cast
        self._asm = Assembler()
        self._labels = [Label() for _ in insns]
        self._reject = Label()
        # How many bytes are known to be there (checked against caplen) when an instruction is reached, on every path
        # to it. All jumps are forward, so one pass knows. What is not in here is never reached, and the verifier
        # refuses code that is not reached.
        self._checked = {0: 0}
        # The stack, downwards from r10: 8 bytes for one load, len, the words of M[] that are read, the window.
        self._top = 16
        self._memory: dict[int, int] = {}
        self._window: _Window | None = None
        # Calls keep r6 to r9, but to use one of them costs saving it. With a cast, most programs call nothing once that
        # is made; `data` is then what it made of the address.
        self._calls = not cast or any(_mode(insn) is _Mode.IND or _is_far(insn) for insn in insns)
        self._a, self._x, self._data = (R6, R7, R8) if self._calls else (R1, R2, R0)
        self._caplen = R9

    def run(self) -> bytes:
        self._prologue()
        for index, insn in enumerate(self._insns):
            if index in self._checked:
                self._asm.place(self._labels[index])
                self._insn(index, insn)
        if self._reject.used:
            self._asm.place(self._reject)
            self._return(0)
        try:
            return self._asm.code()
        except JumpTooFar:
            raise PwruError(
                f"pcap filter: too long: it needs {len(self._asm)} instructions, about 32000 are possible; "
                "shorten it, for example with `net` or `portrange` instead of many hosts or ports"
            ) from None

    def _prologue(self) -> None:
        asm = self._asm
        asm.alu32(Alu.MOV, self._caplen, R2)
        if not self._cast:
            asm.alu64(Alu.MOV, self._data, R1)
        if any(_mode(insn) is _Mode.LEN for insn in self._insns):
            asm.store(Size.W, R10, -16, R3)
        for insn in self._insns:
            if _mode(insn) is _Mode.MEM and insn.k not in self._memory:
                self._top += 4
                self._memory[insn.k] = -self._top
                asm.store(Size.W, R10, -self._top, 0)
        if self._cast:
            self._cast_data(self._cast)
        else:
            self._read_window()
        asm.alu32(Alu.MOV, self._a, 0)
        if any(_uses_x(insn) for insn in self._insns):
            asm.alu32(Alu.MOV, self._x, 0)

    def _cast_data(self, cast: Cast) -> None:
        asm = self._asm
        if self._calls:
            asm.store(Size.DW, R10, _ADDRESS, R1)
        asm.alu64(Alu.ADD, R1, -ARRAY_AT)
        call_cast(asm, cast)
        if self._calls:
            asm.alu64(Alu.MOV, self._data, R0)

    def _read_window(self) -> None:
        loads = [
            (insn.k, Size(insn.code & 0x18))
            for insn in self._insns
            if _mode(insn) in (_Mode.ABS, _Mode.MSH) and insn.k < _MAX_OFFSET - 4
        ]
        if not loads:
            return
        asm = self._asm
        window = self._window = _Window(loads, self._top)
        # A packet may be shorter than the window, and reading behind it may fail, so the length of the read varies;
        # for that the verifier wants an initialized stack (until v6.3, commit 6715df8d5d24).
        for offset in range(window.bottom, window.base + window.end - window.start, 8):
            asm.store(Size.DW, R10, offset, 0)
        short, skip = Label(), Label()
        asm.alu32(Alu.MOV, R2, self._caplen)
        asm.jump32(Jump.LT, R2, window.end, short)
        asm.alu32(Alu.MOV, R2, window.end)
        asm.place(short)
        if window.start:
            asm.jump32(Jump.LE, R2, window.start, skip)
            asm.alu32(Alu.SUB, R2, window.start)
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, window.base)
        asm.alu64(Alu.MOV, R3, self._data)
        asm.alu64(Alu.ADD, R3, window.start)
        asm.call(BPF_FUNC_probe_read_kernel)
        asm.place(skip)

    def _insn(self, index: int, insn: Insn) -> None:
        asm, code, k = self._asm, insn.code, insn.k
        operand = self._x if code & _X else k
        match _Class(code & 7):
            case _Class.LD | _Class.LDX as kind:
                if not self._load(index, insn, self._a if kind is _Class.LD else self._x):
                    return
            case _Class.ST | _Class.STX as kind:
                if k in self._memory:
                    asm.store(Size.W, R10, self._memory[k], self._a if kind is _Class.ST else self._x)
            case _Class.ALU:
                if not self._alu(Alu(code & 0xF0), operand):
                    return
            case _Class.JMP:
                self._jump(index, insn, operand)
                return
            case _Class.RET:
                if code & 0x18 == _RET_A:
                    asm.alu32(Alu.MOV, R0, self._a)
                    asm.exit()
                else:
                    self._return(k)
                return
            case _Class.MISC:
                if code & 0xF8 == _TXA:
                    asm.alu32(Alu.MOV, self._a, self._x)
                else:
                    asm.alu32(Alu.MOV, self._x, self._a)
        self._flow(index, index + 1)

    def _flow(self, index: int, target: int) -> None:
        """Control may go from `index` to `target`."""
        checked = self._checked[index]
        self._checked[target] = min(checked, self._checked.get(target, checked))

    def _return(self, value: int) -> None:
        self._asm.alu32(Alu.MOV, R0, int(value != 0))
        self._asm.exit()

    def _alu(self, op: Alu, operand: int) -> bool:
        """Whether control goes on to the next instruction."""
        asm = self._asm
        match op:
            case Alu.DIV | Alu.MOD if isinstance(operand, Reg):
                asm.jump32(Jump.EQ, operand, 0, self._reject)
                asm.alu32(op, self._a, operand)
            case Alu.DIV | Alu.MOD if operand == 0:
                asm.goto(self._reject)
                return False
            case Alu.LSH | Alu.RSH if isinstance(operand, Reg):
                # eBPF takes the shift modulo 32.
                done = Label()
                asm.alu32(op, self._a, operand)
                asm.jump32(Jump.LT, operand, 32, done)
                asm.alu32(Alu.MOV, self._a, 0)
                asm.place(done)
            case Alu.LSH | Alu.RSH if operand > 31:
                asm.alu32(Alu.MOV, self._a, 0)
            case Alu.NEG:
                asm.alu32(op, self._a)
            case _:
                asm.alu32(op, self._a, operand)
        return True

    def _jump(self, index: int, insn: Insn, operand: int) -> None:
        asm = self._asm
        if insn.code & 0xF0 == 0:  # JA
            if insn.k > _MAX_OFFSET:
                raise PwruError(
                    "pcap filter: `protochain` needs a loop, which cannot run here; "
                    "name the protocol that follows instead, for example `ip6 proto 43`"
                )
            target = index + 1 + insn.k
            if target != index + 1:
                asm.goto(self._labels[target])
            self._flow(index, target)
            return
        condition = Jump(insn.code & 0xF0)
        true, false = index + 1 + insn.jt, index + 1 + insn.jf
        self._flow(index, true)
        self._flow(index, false)
        inverse = {Jump.EQ: Jump.NE, Jump.GT: Jump.LE, Jump.GE: Jump.LT}.get(condition)
        if true == index + 1 and inverse:
            condition, true, false = inverse, false, true
        asm.jump32(condition, self._a, operand, self._labels[true])
        if false != index + 1:
            asm.goto(self._labels[false])

    def _load(self, index: int, insn: Insn, register: Reg) -> bool:
        """LD or LDX: whether control goes on to the next instruction."""
        asm, k, mode = self._asm, insn.k, _mode(insn)
        if mode is _Mode.IMM:
            asm.alu32(Alu.MOV, register, k)
            return True
        if mode is _Mode.MEM:
            asm.load(Size.W, register, R10, self._memory[k])
            return True
        if mode is _Mode.LEN:
            asm.load(Size.W, register, R10, -16)
            return True
        size = Size(insn.code & 0x18)
        if k + size.nbytes > _MAX_OFFSET:
            asm.goto(self._reject)
            return False
        if mode is _Mode.IND:
            self._load_indirect(size, register, k)
        else:
            self._load_constant(index, size, register, k)
        if mode is _Mode.MSH:
            asm.alu32(Alu.AND, register, 0xF)
            asm.alu32(Alu.LSH, register, 2)
        return True

    def _load_constant(self, index: int, size: Size, register: Reg, k: int) -> None:
        asm = self._asm
        end = k + size.nbytes
        if end > self._checked[index]:
            asm.jump32(Jump.LT, self._caplen, end, self._reject)
            self._checked[index] = end
        if self._window and self._window.covers(k, size):
            self._load_stack(size, register, self._window.base + k - self._window.start, R1)
        elif self._cast and end <= ARRAY_SIZE:
            self._asm.load(size, register, self._data, ARRAY_AT + k)
            self._to_host(size, register)
        else:
            address = self._address()
            asm.alu64(Alu.ADD, address, k - lead(self._cast))
            self._load_address(size, register)

    def _address(self) -> Reg:
        """The register for _load_address(), with the address of the packet in it."""
        if self._cast:
            self._asm.load(Size.DW, R1, R10, _ADDRESS)
            return R1
        self._asm.alu64(Alu.MOV, R3, self._data)
        return R3

    def _load_indirect(self, size: Size, register: Reg, k: int) -> None:
        # X + k in 64 bits: bpf_filter() does not let it wrap around.
        asm = self._asm
        asm.alu64(Alu.MOV, R2, self._x)
        asm.alu64(Alu.ADD, R2, k + size.nbytes)
        asm.jump64(Jump.GT, R2, self._caplen, self._reject)
        address = self._address()
        asm.alu64(Alu.ADD, address, R2)
        asm.alu64(Alu.SUB, address, size.nbytes + lead(self._cast))
        self._load_address(size, register)

    def _load_address(self, size: Size, register: Reg) -> None:
        load(self._asm, self._cast, size, register)
        self._to_host(size, register)

    def _to_host(self, size: Size, register: Reg) -> None:
        if size is not Size.B:
            self._asm.to_be(size, register)

    def _load_stack(self, size: Size, register: Reg, offset: int, spare: Reg) -> None:
        """From r10 + offset, in pieces where that is not aligned; `spare` and those after it are free."""
        asm = self._asm
        if offset % size.nbytes == 0:
            asm.load(size, register, R10, offset)
            self._to_host(size, register)
            return
        half = {Size.W: Size.H, Size.H: Size.B}[size]
        self._load_stack(half, register, offset, Reg(spare + 1))
        self._load_stack(half, spare, offset + half.nbytes, Reg(spare + 1))
        asm.alu32(Alu.LSH, register, half.nbytes * 8)
        asm.alu32(Alu.OR, register, spare)
