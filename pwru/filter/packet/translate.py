"""Classic BPF to eBPF: the part of the packet filter that looks at the packet itself (packet.py puts it together).

The meaning of a program is what libpcap's bpf_filter() makes of it: 32-bit unsigned arithmetic, a load that is not
inside the first `caplen` bytes rejects, offsets do not wrap around, division by zero rejects, shifts by 32 or more
give 0. What is read is only the packet and what lies close behind, through helpers that survive any address; unreadable
memory reads as 0.

Nearly all packets are rejected, so that way is the short one:
- That the loads were inside the packet is checked where it accepts, not before: until then what they say does no harm.
  They are all near the header, and behind an skb's data its skb_shared_info can be read.
- Values that are only compared stay in the byte order of the packet; the constants are swapped instead.
- Two words side by side that are compared one after the other are one load, as the addresses of IPv4 are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

from pwru.ebpf import (
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
    Label,
    Reg,
    Size,
)
from pwru.errors import PwruError
from pwru.filter.load import ARRAY_OFFSET, ARRAY_SIZE, RdonlyCast, call_cast, cast_offset, load

from .pcap import Insn


# Opcodes of classic BPF (pcap/bpf.h). Sizes, ALU operations and jump conditions have the numbers that eBPF gives them.
class _Class(IntEnum):
    LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)


class _Mode(IntEnum):
    """Of LD and LDX."""

    IMM, ABS, IND, MEM, LEN, MSH = range(0x00, 0xC0, 0x20)


_X = 0x08
_RET_A = 0x10
_TXA = 0x80
_TAG_AT = 12
_LD_W_ABS = _Class.LD | _Mode.ABS

# Where the address of the packet is on the stack while a register has what a cast made of it, and the packet's length.
_ADDRESS = -8
LEN = -16

# Where bytes 12 to 15 of an Ethernet packet are on the stack, as on the wire, if its own bytes do not have them. To
# the program that is M[AT_TAG + n], behind the words that M[] has: what begins at byte 12 + n, of any size.
TAG, AT_TAG = -24, 16

CAPLEN = R6  # at the latest when it is compared

_MAX_OFFSET = 0x7FFFFFFF  # no packet is that long (skb->len is less than 2 GB), and immediates are signed

_SWAPPABLE = (Size.H, Size.W)
_Raw = dict[int, Size]


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


def loads_len(insns: Sequence[Insn]) -> bool:
    """Whether the program looks at the packet's length."""
    return any(_mode(insn) is _Mode.LEN for insn in insns)


def _end(insn: Insn) -> int:
    """Where a load at a constant offset ends; 0 for other instructions."""
    return insn.k + Size(insn.code & 0x18).nbytes if _mode(insn) in (_Mode.ABS, _Mode.MSH) else 0


def _is_comparison(insn: Insn, size: Size) -> bool:
    """One that is as good with both sides in the byte order of the packet; `size` is of what was loaded."""
    if insn.code & 7 == _Class.ALU:
        return insn.code & 0xF8 == Alu.AND
    return insn.code in (_Class.JMP | Jump.SET, _Class.JMP | Jump.EQ) and (
        insn.code & 0xF0 == Jump.SET or not insn.k >> 8 * size.nbytes
    )


def _swapped(value: int, size: Size) -> int:
    mask = (1 << 8 * size.nbytes) - 1
    return int.from_bytes((value & mask).to_bytes(size.nbytes, "big"), "little")


def with_tag(insns: Sequence[Insn]) -> list[Insn]:
    """The program for an Ethernet packet as it is without the VLAN tag that it had, which is at TAG.

    Raises PwruError where a load lies partly in the tag.
    """
    return [_behind(insn, _TAG_AT, _TAG_AT + 4, 4) for insn in insns]


def without_mac(insns: Sequence[Insn]) -> list[Insn]:
    """The program for an Ethernet packet as it is without the link-layer header, of which the EtherType is at TAG.

    Both addresses are 00:00:00:00:00:00 then. Raises PwruError where a load lies partly in front of the EtherType or
    behind it, or is at an offset that is computed.
    """
    return [
        insn._replace(code=insn.code & 7 | _Mode.IMM, k=0)
        if 0 < _end(insn) <= _TAG_AT
        else _behind(insn, _TAG_AT, _TAG_AT + 2, 14)
        for insn in insns
    ]


def _behind(insn: Insn, start: int, end: int, cut: int) -> Insn:
    """For a packet that lacks `cut` bytes up to `end`: those from `start` on are at TAG."""
    mode = _mode(insn)
    if mode not in (_Mode.ABS, _Mode.MSH, _Mode.IND) or 0 < _end(insn) <= start:
        return insn
    if insn.k >= end:
        return insn._replace(k=insn.k - cut)
    if mode is not _Mode.IND and insn.k >= start and _end(insn) <= end:
        return insn._replace(code=insn.code & 0x1F | _Mode.MEM, k=AT_TAG + insn.k - start)
    raise PwruError(f"pcap filter: bytes {start} to {end - 1} of the packet can only be looked at by themselves here")


class _Flow:
    """What is known of a program before it is translated. All its jumps are forward, so one pass knows."""

    def __init__(self, insns: Sequence[Insn]) -> None:
        self._insns = insns
        # From where an instruction is reached. One that is not in here never is, and the verifier refuses such code.
        self.before: dict[int, list[int]] = {0: []}
        # How many bytes the loads on the way to an instruction, and itself, need; on all ways the same.
        self.needs: dict[int, int] = {}
        # Where that is to be checked: from there on another way, that needs less, is the same.
        self.checks: set[int] = set()
        # What A may be when an instruction is reached: the load that it was, or -1.
        self._values: dict[int, set[int]] = {0: {-1}}
        for index, insn in enumerate(insns):
            if index in self.before:
                self._visit(index, insn)
        self.raw = self._find_raw()

    def is_return(self, index: int) -> bool:
        return self._insns[index].code & 7 == _Class.RET

    def _visit(self, index: int, insn: Insn) -> None:
        needs = [self.needs[before] for before in self.before[index]] or [1]
        if not self.is_return(index):
            self.checks.update(before for before in self.before[index] if self.needs[before] > min(needs))
        self.needs[index] = max(min(needs), _end(insn))
        values = self._values[index]
        match _Class(insn.code & 7):
            case _Class.LD:
                loads = _mode(insn) in (_Mode.ABS, _Mode.IND) and Size(insn.code & 0x18) in _SWAPPABLE
                values = {index if loads else -1}
            case _Class.ALU if insn.code & 0xF8 != Alu.AND:
                values = {-1}
            case _Class.MISC if insn.code & 0xF8 == _TXA:
                values = {-1}
        for after in self._after(index, insn):
            self.before.setdefault(after, []).append(index)
            self._values.setdefault(after, set()).update(values)

    def _after(self, index: int, insn: Insn) -> set[int]:
        match _Class(insn.code & 7):
            case _Class.RET:
                return set()
            case _Class.JMP if insn.code & 0xF0 == 0:
                if insn.k > _MAX_OFFSET:
                    raise PwruError(
                        "pcap filter: `protochain` needs a loop, which cannot run here; "
                        "name the protocol that follows instead, for example `ip6 proto 43`"
                    )
                return {index + 1 + insn.k}
            case _Class.JMP:
                return {index + 1 + insn.jt, index + 1 + insn.jf}
            case _:
                return {index + 1}

    def _find_raw(self) -> _Raw:
        """Instructions that load A, or use it, in the byte order of the packet: with the size of what was loaded."""
        sizes = {-1: Size.B}
        uses = []
        for index, values in self._values.items():
            insn = self._insns[index]
            for value in values - sizes.keys():
                sizes[value] = Size(self._insns[value].code & 0x18)
            kind = _Class(insn.code & 7)
            if (
                kind in (_Class.ST, _Class.ALU)
                or (kind is _Class.JMP and insn.code & 0xF0)
                or (kind is _Class.RET and insn.code & 0x18 == _RET_A)
                or (kind is _Class.MISC and insn.code & 0xF8 != _TXA)
            ):
                uses.append((index, values))
        host = {-1}
        changed = True
        while changed:
            changed = False
            for index, values in uses:
                size = sizes[min(values)]
                same = all(sizes[value] is size for value in values)
                if not same or values & host or not _is_comparison(self._insns[index], size):
                    changed |= not values <= host
                    host |= values
        raw = {value: size for value, size in sizes.items() if value not in host}
        return raw | {index: sizes[min(values)] for index, values in uses if not values & host}

    def second_of_two(self, index: int) -> int | None:
        """A load of the word behind that which `index` loads; nothing is between them but a comparison."""
        first = self._insns[index]
        if first.code != _LD_W_ABS or index not in self.raw or self.before[index + 1] != [index]:
            return None
        compare = self._insns[index + 1]
        if compare.code != _Class.JMP | Jump.EQ:
            return None
        for second in (index + 2 + compare.jt, index + 2 + compare.jf):
            insn = self._insns[second]
            behind = (insn.code, insn.k) == (_LD_W_ABS, first.k + 4)
            if behind and second in self.raw and self.before[second] == [index + 1]:
                return second
        return None


class _Window:
    """The bytes [start, end) of the packet on the stack, from r10 + base on; `covers()` what lies inside."""

    def __init__(self, loads: Sequence[tuple[int, Size]], top: int) -> None:
        self.start = min(k for k, _ in loads)
        self.end = max(k + size.nbytes for k, size in loads)
        # The verifier wants loads from the stack aligned; IP addresses behind an Ethernet header are not. Begin the
        # window where the fewest are misaligned.
        length = self.end - self.start
        self.base = min(
            range(-length - top, -length - top - 4, -1),
            key=lambda base: sum((base + k - self.start) % size.nbytes != 0 for k, size in loads),
        )

    def covers(self, k: int, size: Size) -> bool:
        return self.start <= k and k + size.nbytes <= self.end


class Body:
    """A classic BPF program as a part of an eBPF function, which returns 1 or goes to `reject`.

    Without `cast`: one bpf_probe_read_kernel() puts the stretch of the packet that the loads near its start need onto
    the stack; each other load is a call of its own. Runs since v5.5.
    With `cast`: each load is direct, after bpf_rdonly_cast(), which the verifier inlines (since v6.2, commit
    a35b9af4ec2c ("bpf: Add a kfunc for generic type cast")); one cast serves all loads from the first 126 bytes.

    Raises PwruError for a program with a loop.
    """

    def __init__(self, insns: Sequence[Insn], cast: RdonlyCast | None) -> None:
        self._insns = insns
        self._cast = cast
        self._flow = flow = _Flow(insns)
        # The stack, downwards from r10: 8 bytes for one load, len, the words of M[] that are read, the window.
        self._top = -TAG if any(insn.k >= AT_TAG and _mode(insn) is _Mode.MEM for insn in insns) else -LEN
        self._memory: dict[int, int] = {}
        self._near = [(insn.k, Size(insn.code & 0x18)) for insn in insns if 0 < _end(insn) <= ARRAY_SIZE]
        # Calls keep r6 to r9, but to use one of them costs saving it. Most programs call nothing once the packet is
        # at hand; with a cast `data` is then what it made of the address.
        self._calls = any(_mode(insn) is _Mode.IND or _end(insn) > ARRAY_SIZE for insn in insns)
        self._a, self._x, self._data = (R7, R8, R9) if self._calls else (R1, R2, R0)
        # Whether CAPLEN has to be there from the start.
        self.compares_caplen = self._calls or bool(flow.checks)

    def emit(self, asm: Assembler, reject: Label, find_caplen: Callable[[], None]) -> None:
        """With the address of the packet in r1, its length at LEN if it is looked at, and CAPLEN if compares_caplen.

        `find_caplen()` emits what else computes it, without r0 and from r6 on.
        """
        self._asm = asm
        self._reject = reject
        self._labels = [Label() for _ in self._insns]
        self._accepts: dict[tuple[bool, int], Label] = {}
        # How many bytes are known to be there, since they were compared with CAPLEN, on all ways to an instruction.
        self._checked = {0: [0]}
        self._seconds: set[int] = set()
        if self._flow.is_return(0):  # A is 0
            asm.goto(reject if self._insns[0].code & 0x18 == _RET_A else self._target(0, 0))
        else:
            self._prologue()
            for index, insn in enumerate(self._insns):
                if index in self._checked:
                    asm.place(self._labels[index])
                    self._insn(index, insn)
        self._reject_here()
        for (of_a, needed), label in self._accepts.items():
            asm.place(label)
            if of_a:
                asm.jump32(Jump.EQ, self._a, 0, reject)
            if not self.compares_caplen:
                find_caplen()
            asm.jump32(Jump.SLT, CAPLEN, needed, reject)  # negative: the header is behind the tail
            asm.alu32(Alu.MOV, R0, 1)
            asm.exit()

    def _reject_here(self) -> None:
        """Of all ends of a program the first is the shortest for the JIT."""
        if self._reject.index is None and self._reject.used:
            self._asm.place(self._reject)
            self._asm.alu32(Alu.MOV, R0, 0)
            self._asm.exit()

    def _prologue(self) -> None:
        asm = self._asm
        for insn in self._insns:
            if _mode(insn) is _Mode.MEM and insn.k < AT_TAG and insn.k not in self._memory:
                self._top += 4
                self._memory[insn.k] = -self._top
                asm.store(Size.W, R10, -self._top, 0)
        self._window: _Window | None = None
        self._lead = 0
        if self._cast:
            self._cast_data(self._cast)
        else:
            self._read_window()
        # What reads them before anything was loaded finds 0.
        if self._insns[0].code & 7 != _Class.LD:
            asm.alu32(Alu.MOV, self._a, 0)
        if any(_uses_x(insn) for insn in self._insns):
            asm.alu32(Alu.MOV, self._x, 0)

    def _cast_data(self, cast: RdonlyCast) -> None:
        asm = self._asm
        if self._calls:
            asm.store(Size.DW, R10, _ADDRESS, R1)
        # The array begins behind the start of the struct, and mostly there is nothing to load there.
        if any(k < ARRAY_OFFSET for k, _ in self._near):
            self._lead = ARRAY_OFFSET
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
        window = self._window = _Window(self._near, self._top)
        asm.alu64(Alu.MOV, R3, R1)
        if window.start:
            asm.alu64(Alu.ADD, R3, window.start)
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, window.base)
        asm.alu32(Alu.MOV, R2, window.end - window.start)
        asm.call(BPF_FUNC_probe_read_kernel)

    def _insn(self, index: int, insn: Insn) -> None:
        asm, code, k = self._asm, insn.code, insn.k
        operand = self._x if code & _X else k
        checked = min(self._checked[index])
        self._checked[index] = [checked]
        match _Class(code & 7):
            case _Class.LD | _Class.LDX as kind:
                if not self._load(index, insn, self._a if kind is _Class.LD else self._x):
                    return
            case _Class.ST | _Class.STX as kind:
                if k in self._memory:
                    asm.store(Size.W, R10, self._memory[k], self._a if kind is _Class.ST else self._x)
            case _Class.ALU:
                if index in self._flow.raw:
                    operand = _swapped(k, self._flow.raw[index])
                if not self._alu(Alu(code & 0xF0), operand):
                    return
            case _Class.JMP:
                self._check(index)
                self._jump(index, insn, operand)
                return
            case _Class.MISC:
                if code & 0xF8 == _TXA:
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
            self._asm.jump32(Jump.LT, CAPLEN, needed, self._reject)
            self._checked[index] = [needed]

    def _target(self, index: int, target: int) -> Label:
        """Where to go to from `index` for the instruction `target`."""
        insn = self._insns[target]
        if not self._flow.is_return(target):
            self._checked.setdefault(target, []).append(self._checked[index][0])
            return self._labels[target]
        of_a = insn.code & 0x18 == _RET_A
        if not of_a and not insn.k:
            return self._reject
        return self._accepts.setdefault((of_a, self._flow.needs[index]), Label())

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
        following = self._labels[index + 1] if index + 1 < len(self._labels) else None
        if insn.code & 0xF0 == 0:  # JA
            target = self._target(index, index + 1 + insn.k)
            if target is not following:
                asm.goto(target)
            return
        condition = Jump(insn.code & 0xF0)
        if index in self._flow.raw:
            operand = _swapped(operand, self._flow.raw[index])
        true = self._target(index, index + 1 + insn.jt)
        false = self._target(index, index + 1 + insn.jf)
        inverse = {Jump.EQ: Jump.NE, Jump.GT: Jump.LE, Jump.GE: Jump.LT}.get(condition)
        # To reject takes no second jump.
        if inverse and (true is following or (false is self._reject and false is not following)):
            condition, true, false = inverse, false, true
        asm.jump32(condition, self._a, operand, true)
        if false is not following:
            asm.goto(false)

    def _load(self, index: int, insn: Insn, register: Reg) -> bool:
        """LD or LDX: whether control goes on to the next instruction."""
        asm, k, mode = self._asm, insn.k, _mode(insn)
        if mode is _Mode.IMM:
            asm.alu32(Alu.MOV, register, k)
            return True
        if mode is _Mode.MEM and k < AT_TAG:
            asm.load(Size.W, register, R10, self._memory[k])
            return True
        if mode is _Mode.LEN:
            asm.load(Size.W, register, R10, LEN)
            return True
        size, in_nibbles = Size(insn.code & 0x18), insn.code & 7 == _Class.LDX
        if k + size.nbytes > _MAX_OFFSET:
            asm.goto(self._reject)
            return False
        if mode is _Mode.MEM:
            self._load_stack(size, register, TAG + k - AT_TAG, R3)
        elif mode is _Mode.IND:
            self._load_indirect(size, register, k)
        elif index in self._seconds:
            asm.alu64(Alu.RSH, register, 32)
        else:
            second = self._flow.second_of_two(index) if self._cast and k + 8 <= ARRAY_SIZE else None
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
            asm.load(size, register, self._data, self._lead + k)
        else:
            self._compare_caplen(index, k + size.nbytes)
            address = self._address()
            asm.alu64(Alu.ADD, address, k - cast_offset(self._cast))
            load(asm, self._cast, size, register)

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
        asm.jump64(Jump.GT, R2, CAPLEN, self._reject)
        address = self._address()
        asm.alu64(Alu.ADD, address, R2)
        asm.alu64(Alu.SUB, address, size.nbytes + cast_offset(self._cast))
        load(asm, self._cast, size, register)

    def _load_stack(self, size: Size, register: Reg, offset: int, spare: Reg) -> None:
        """From r10 + offset, in pieces where that is not aligned; `spare` and those after it are free."""
        asm = self._asm
        if offset % size.nbytes == 0:
            asm.load(size, register, R10, offset)
            return
        half = {Size.W: Size.H, Size.H: Size.B}[size]
        self._load_stack(half, register, offset, Reg(spare + 1))
        self._load_stack(half, spare, offset + half.nbytes, Reg(spare + 1))
        asm.alu32(Alu.LSH, spare, half.nbytes * 8)
        asm.alu32(Alu.OR, register, spare)
