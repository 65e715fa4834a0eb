"""Classic BPF to eBPF: the part of the packet filter that looks at the packet itself; skb.py puts it together.

A program means what libpcap's bpf_filter() makes of it: 32-bit unsigned arithmetic, a load that is not inside the first
`caplen` bytes rejects, offsets do not wrap around, division by zero rejects, shifts by 32 or more give 0. Only the
packet and what follows it closely is read, through helpers that survive any address; unreadable memory reads as 0.

Nearly all packets are rejected, so that path is the short one:
- Whether all loads were inside the packet is checked where it is accepted, not before. Until then it does no harm: the
  loads are all near the header, and after an skb's data its skb_shared_info can be read.
- Values that are only compared stay in the packet's byte order; the constants are swapped instead.
- Two adjacent words that are compared one after the other, such as IPv4 addresses, are one load.
"""

from collections.abc import Callable, Sequence

from pwru.ebpf import Alu, Assembler, BPF_FUNC_probe_read_kernel, Jump, Label, Reg, Size
from pwru.filter.load import ARRAY_OFFSET, ARRAY_SIZE, RdonlyCast, call_cast, cast_offset, load

from . import Insn
from .classic import (
    AT_TAG,
    MAX_OFFSET,
    RET_A,
    TXA,
    Class,
    Gap,
    Mode,
    X,
    load_end,
    load_mode,
    load_size,
    swap,
    uses_x,
)
from .flow import Flow, jumps_without_ip
from .window import ALIGNMENT, Window
from .wire import Wire

R0, R1, R2, R3, _, _, R6, R7, R8, R9, R10 = Reg

# Stack slots: the address of the packet while a register has the result of a cast; its length; M[AT_TAG + n].
_ADDRESS = -8
LEN = -16
TAG = -24

IF_IP, BEYOND = 2, 3  # bpf/filter.bpf.h

_AT_RUN_TIME = (Mode.IND, Mode.WIRE_ABS, Mode.WIRE_IND)  # loads whose place is compared with CAPLEN by themselves
CAPLEN = R6  # at the latest when it is compared
_STACK = 192  # bytes: bpf/filter.bpf.h


class Body:
    """A classic BPF program as a part of an eBPF function, which returns a verdict or goes to `reject`.

    The verdict is 1; if the program is for packets without a link-layer header (`bare`), and accepts this one as one of
    IP, it is IF_IP. `gap`: what the packet lacks of the frame that the program is about; it is at TAG then.
    `beyond`: where to go with a load beyond the captured bytes, which rejects otherwise; each is compared before then.

    Without `cast`: one bpf_probe_read_kernel() copies what the loads near the start of the packet need to the stack;
    each other load is a call of its own. Runs since v5.5.
    With `cast`: each load is direct, after bpf_rdonly_cast(), which the verifier inlines (since v6.2, commit
    a35b9af4ec2c ("bpf: Add a kfunc for generic type cast")); one cast serves all loads from the first 126 bytes.

    Raises PwruError for a program with a loop.
    """

    def __init__(
        self,
        insns: Sequence[Insn],
        cast: RdonlyCast | None,
        *,
        gap: Gap | None = None,
        bare: bool = False,
        beyond: Label | None = None,
    ) -> None:
        self._beyond = beyond
        self._insns = insns
        self._cast = cast
        self._gap = gap
        self._flow = flow = Flow(insns)
        self._other = jumps_without_ip(insns) if bare else None
        # The stack, downwards from r10: 8 bytes for one load, LEN, TAG if used, words of M[] that are read, the window.
        self._top = -TAG if any(map(_reads_gap, insns)) else -LEN
        self._memory: dict[int, int] = {}
        end = ARRAY_SIZE if cast else self._window_end()
        self._near = [(insn.k, load_size(insn)) for insn in insns if 0 < load_end(insn) <= end]
        # Calls preserve r6 to r9, but a function that uses one must save it. Most programs call nothing once the packet
        # is at hand; _data is the packet's address, or what the cast made of it.
        self._calls = any(load_mode(insn) in _AT_RUN_TIME or load_end(insn) > end for insn in insns)
        self._a, self._x, self._data = (R7, R8, R9) if self._calls else (R1, R2, R0)
        # CAPLEN must then be set from the start.
        self.compares_caplen = self._calls or bool(flow.checks or beyond)

    def _window_end(self) -> int:
        """Return how far into the packet a window may reach: there is room for so much on the stack."""
        words = {insn.k for insn in self._insns if load_mode(insn) is Mode.MEM and insn.k < AT_TAG}
        start = min((insn.k for insn in self._insns if load_end(insn)), default=0)
        return min(ARRAY_SIZE, start + _STACK - self._top - 4 * len(words) - ALIGNMENT)

    def emit(self, asm: Assembler, reject: Label, find_caplen: Callable[[], None]) -> None:
        """Emit the code.

        It expects the packet's address in r1, its length at LEN if the program loads it, and CAPLEN if compares_caplen;
        otherwise `find_caplen()` emits what computes CAPLEN, using neither r0 nor the other registers from r6 on.
        """
        self._asm = asm
        self._reject = reject
        self._outside = self._beyond or reject
        self._labels = [Label() for _ in self._insns]
        self._accepts: dict[tuple[bool, int, int], Label] = {}
        # How many bytes have been compared with CAPLEN, for each path to an instruction.
        self._checked = {0: [0]}
        self._seconds: set[int] = set()
        if self._flow.is_return(0):  # A is 0
            asm.goto(reject if self._insns[0].code & 0x18 == RET_A else self._target(0, 0))
        else:
            self._prologue()
            for index, insn in enumerate(self._insns):
                if index in self._checked:
                    asm.place(self._labels[index])
                    self._insn(index, insn)
        self._reject_here()
        for (returns_a, needed, verdict), label in self._accepts.items():
            asm.place(label)
            if returns_a:
                asm.jump32(Jump.EQ, self._a, 0, reject)
            if not self.compares_caplen:
                find_caplen()
            asm.jump32(Jump.SLT, CAPLEN, needed, reject)  # negative: the header is after the tail
            asm.alu32(Alu.MOV, R0, verdict)
            asm.exit()

    def _reject_here(self) -> None:
        """Place the reject block first: its jumps are then the shortest."""
        if self._reject.index is None and self._reject.used:
            self._asm.place(self._reject)
            self._asm.alu32(Alu.MOV, R0, 0)
            self._asm.exit()

    def _prologue(self) -> None:
        asm = self._asm
        for insn in self._insns:
            if load_mode(insn) is Mode.MEM and insn.k < AT_TAG and insn.k not in self._memory:
                self._top += 4
                self._memory[insn.k] = -self._top
                asm.store(Size.W, R10, -self._top, 0)
        self._window: Window | None = None
        self._data_offset = 0
        if self._cast:
            self._cast_data(self._cast)
        else:
            self._read_window()
        # A and X are 0 before anything is loaded.
        if self._insns[0].code & 7 != Class.LD:
            asm.alu32(Alu.MOV, self._a, 0)
        if any(uses_x(insn) for insn in self._insns):
            asm.alu32(Alu.MOV, self._x, 0)

    def _cast_data(self, cast: RdonlyCast) -> None:
        asm = self._asm
        if self._calls:
            asm.store(Size.DW, R10, _ADDRESS, R1)
        # The array begins after the start of the struct, and most programs load nothing from the bytes before it.
        if any(k < ARRAY_OFFSET for k, _ in self._near):
            self._data_offset = ARRAY_OFFSET
            asm.alu64(Alu.ADD, R1, -ARRAY_OFFSET)
        call_cast(asm, cast)
        if self._calls:
            asm.alu64(Alu.MOV, self._data, R0)

    def _read_window(self) -> None:
        asm = self._asm
        if self._calls:
            asm.alu64(Alu.MOV, self._data, R1)
        if not self._near:
            return
        window = self._window = Window(self._near, self._top)
        asm.alu64(Alu.MOV, R3, R1)
        if window.start:
            asm.alu64(Alu.ADD, R3, window.start)
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, window.base)
        asm.alu32(Alu.MOV, R2, window.end - window.start)
        asm.call(BPF_FUNC_probe_read_kernel)

    def _insn(self, index: int, insn: Insn) -> None:
        asm, code, k = self._asm, insn.code, insn.k
        operand = self._x if code & X else k
        checked = min(self._checked[index])
        self._checked[index] = [checked]
        match Class(code & 7):
            case Class.LD | Class.LDX as insn_class:
                if not self._load(index, insn, self._a if insn_class is Class.LD else self._x):
                    return
            case Class.ST | Class.STX as insn_class:
                if k in self._memory:
                    asm.store(Size.W, R10, self._memory[k], self._a if insn_class is Class.ST else self._x)
            case Class.ALU:
                if index in self._flow.raw:
                    operand = swap(k, self._flow.raw[index])
                if not self._alu(Alu(code & 0xF0), operand):
                    return
            case Class.JMP:
                self._check(index)
                self._jump(index, insn, operand)
                return
            case Class.MISC:
                if code & 0xF8 == TXA:
                    asm.alu32(Alu.MOV, self._a, self._x)
                else:
                    asm.alu32(Alu.MOV, self._x, self._a)
        self._check(index)
        target = self._target(index, index + 1)
        if target is not self._labels[index + 1]:
            asm.goto(target)

    def _check(self, index: int) -> None:
        if index in self._flow.checks:
            self._compare_caplen(index, self._flow.needs[index])

    def _compare_caplen(self, index: int, needed: int) -> None:
        if needed > self._checked[index][0]:
            self._asm.jump32(Jump.LT, CAPLEN, needed, self._outside)
            self._checked[index] = [needed]

    def _target(self, index: int, target: int) -> Label:
        """Return the label to jump to from `index` for the instruction `target`."""
        insn = self._insns[target]
        if not self._flow.is_return(target):
            self._checked.setdefault(target, []).append(self._checked[index][0])
            return self._labels[target]
        returns_a = insn.code & 0x18 == RET_A
        if not returns_a and not insn.k:
            return self._reject
        verdict = 1 if self._other is None or (index, target) in self._other else IF_IP
        return self._accepts.setdefault((returns_a, self._flow.needs[index], verdict), Label())

    def _alu(self, op: Alu, operand: int) -> bool:
        """Return whether control goes on to the next instruction."""
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
        following = self._labels[index + 1] if index + 1 < len(self._labels) else None
        if insn.code & 0xF0 == 0:  # JA
            target = self._target(index, index + 1 + insn.k)
            if target is not following:
                asm.goto(target)
            return
        condition = Jump(insn.code & 0xF0)
        if index in self._flow.raw:
            operand = swap(operand, self._flow.raw[index])
        true = self._target(index, index + 1 + insn.jt)
        false = self._target(index, index + 1 + insn.jf)
        inverse = {Jump.EQ: Jump.NE, Jump.GT: Jump.LE, Jump.GE: Jump.LT}.get(condition)
        # Rejecting takes no second jump.
        if inverse and (true is following or (false is self._reject and false is not following)):
            condition, true, false = inverse, false, true
        asm.jump32(condition, self._a, operand, true)
        if false is not following:
            asm.goto(false)

    def _load(self, index: int, insn: Insn, register: Reg) -> bool:
        """Emit LD or LDX; return whether control goes on to the next instruction."""
        asm, k, mode = self._asm, insn.k, load_mode(insn)
        if mode is Mode.IMM:
            asm.alu32(Alu.MOV, register, k)
            return True
        if mode is Mode.MEM and k < AT_TAG:
            asm.load(Size.W, register, R10, self._memory[k])
            return True
        if mode is Mode.LEN:
            asm.load(Size.W, register, R10, LEN)
            return True
        size, in_nibbles = load_size(insn), insn.code & 7 == Class.LDX
        if k + size.nbytes > MAX_OFFSET:
            asm.goto(self._reject)
            return False
        if self._beyond:
            self._compare_caplen(index, load_end(insn))
        if mode in (Mode.WIRE_ABS, Mode.WIRE_IND):
            self._load_wire(size, register, k, self._x if mode is Mode.WIRE_IND else None)
            return True
        if mode is Mode.MEM:
            self._load_stack(size, register, TAG + k - AT_TAG, R3)
        elif mode is Mode.IND:
            self._load_indirect(size, register, k)
        elif index in self._seconds:
            asm.alu64(Alu.RSH, register, 32)
        else:
            second = self._flow.second_word(index) if self._cast and k + 8 <= ARRAY_SIZE else None
            if second:
                self._seconds.add(second)
            self._load_constant(index, Size.DW if second else size, register, k)
        if size is not Size.B and index not in self._flow.raw:
            asm.to_be(size, register)
        if in_nibbles:
            asm.alu32(Alu.AND, register, 0xF)
            asm.alu32(Alu.LSH, register, 2)
        return True

    def _load_constant(self, index: int, size: Size, register: Reg, k: int) -> None:
        asm = self._asm
        if self._window and self._window.covers(k, size):
            self._load_stack(size, register, self._window.base + k - self._window.start, R3)
        elif self._cast and k + size.nbytes <= ARRAY_SIZE:
            asm.load(size, register, self._data, self._data_offset + k)
        else:
            self._compare_caplen(index, k + size.nbytes)
            address = self._address()
            asm.alu64(Alu.ADD, address, k - cast_offset(self._cast))
            load(asm, self._cast, size, register)

    def _address(self) -> Reg:
        """Put the packet's address into the register in which load() takes an address, and return the register."""
        if self._cast:
            self._asm.load(Size.DW, R1, R10, _ADDRESS)
            return R1
        self._asm.alu64(Alu.MOV, R3, self._data)
        return R3

    def _load_indirect(self, size: Size, register: Reg, k: int) -> None:
        # X + k in 64 bits: it does not wrap around in bpf_filter().
        asm = self._asm
        asm.alu64(Alu.MOV, R2, self._x)
        asm.alu64(Alu.ADD, R2, k + size.nbytes)
        asm.jump64(Jump.GT, R2, CAPLEN, self._outside)
        address = self._address()
        asm.alu64(Alu.ADD, address, R2)
        asm.alu64(Alu.SUB, address, size.nbytes + cast_offset(self._cast))
        load(asm, self._cast, size, register)

    def _load_wire(self, size: Size, register: Reg, k: int, x: Reg | None) -> None:
        def load_byte() -> None:
            self._asm.jump64(Jump.GE, R2, CAPLEN, self._outside)
            address = self._address()
            self._asm.alu64(Alu.ADD, address, R2)
            self._asm.alu64(Alu.SUB, address, cast_offset(self._cast))
            load(self._asm, self._cast, Size.B, R0)

        assert self._gap
        Wire(self._asm, self._gap, TAG, load_byte).load(size, register, k, x)

    def _load_stack(self, size: Size, register: Reg, offset: int, spare: Reg) -> None:
        """Load from r10 + offset, in pieces if that is not aligned; may use `spare` and the registers after it."""
        asm = self._asm
        if offset % size.nbytes == 0:
            asm.load(size, register, R10, offset)
            return
        half = {Size.W: Size.H, Size.H: Size.B}[size]
        self._load_stack(half, register, offset, Reg(spare + 1))
        self._load_stack(half, spare, offset + half.nbytes, Reg(spare + 1))
        asm.alu32(Alu.LSH, spare, half.nbytes * 8)
        asm.alu32(Alu.OR, register, spare)


def _reads_gap(insn: Insn) -> bool:
    mode = load_mode(insn)
    return mode in (Mode.WIRE_ABS, Mode.WIRE_IND) or (mode is Mode.MEM and insn.k >= AT_TAG)
