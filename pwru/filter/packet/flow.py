"""The flow of a classic BPF program, as the translation must know it. All jumps are forward: one pass finds it."""

from collections.abc import Sequence

from pwru.ebpf import Alu, Jump, Size
from pwru.errors import PwruError

from . import Insn
from .classic import AT_TAG, MAX_OFFSET, RET_A, TXA, Class, Mode, load_end, load_mode, load_size, works_swapped

_SWAPPABLE = (Size.H, Size.W)
_LD_W_ABS = Class.LD | Mode.ABS
_OTHER, _FIRST_BYTE, _VERSION, _ETHERTYPE = (), (-1,), (0x40, 0x60), (0x0800, 0x86DD)
_UNKNOWN = -1  # a value of A that is not a load, or that is needed in host order


def jumps_without_ip(insns: Sequence[Insn]) -> set[tuple[int, int]] | None:
    """Return the jumps, as (from, to), that are possible for a packet without a link-layer header that is not IP.

    Programs find out by the high nibble of the first byte, or by the EtherType at M[AT_TAG] of without_mac(). None if
    all that is not IP is accepted.
    """
    jumps = {(0, 0)}
    values: dict[int, Sequence[int]] = {0: _OTHER}  # what A is, if it is the same on all ways to an instruction
    for index, insn in enumerate(insns):
        if index not in values or insn.code & 7 == Class.RET:
            continue
        value = _type_of_a(insn, values[index])
        targets = {index + 1}
        if insn.code & 7 == Class.JMP:
            targets = {index + 1 + (insn.jt if insn.code & 0xF0 else insn.k)}
            if insn.code == Class.JMP | Jump.EQ and insn.k in value:
                targets.clear()
            if insn.code & 0xF0:
                targets.add(index + 1 + insn.jf)
        for target in targets:
            jumps.add((index, target))
            values[target] = value if values.get(target, value) is value else _OTHER
    returns = [insns[target] for _, target in jumps if insns[target].code & 7 == Class.RET]
    return None if all(insn.code & 0x18 != RET_A and insn.k for insn in returns) else jumps


def _type_of_a(insn: Insn, before: Sequence[int]) -> Sequence[int]:
    """Return the values that A has for IP only, after this instruction."""
    match Class(insn.code & 7):
        case Class.LD if insn.code == Class.LD | Size.B | Mode.ABS and not insn.k:
            return _FIRST_BYTE
        case Class.LD if insn.code == Class.LD | Size.H | Mode.MEM and insn.k == AT_TAG:
            return _ETHERTYPE
        case Class.ALU if insn.code == Class.ALU | Alu.AND and before is _FIRST_BYTE and insn.k == 0xF0:
            return _VERSION
        case Class.LD | Class.ALU:
            return _OTHER
        case Class.MISC if insn.code & 0xF8 == TXA:
            return _OTHER
    return before


class Flow:
    """Facts about the instructions, by their index."""

    def __init__(self, insns: Sequence[Insn]) -> None:
        self._insns = insns
        # The instructions from which each one is reached. The verifier refuses code that is never reached.
        self.predecessors: dict[int, list[int]] = {0: []}
        # Bytes the packet must have for all loads up to and including this instruction.
        self.needs: dict[int, int] = {}
        # Instructions where this must be checked because a path with weaker requirements joins.
        self.checks: set[int] = set()
        # What A may be when an instruction is reached: the index of a load, or _UNKNOWN.
        self._values: dict[int, set[int]] = {0: {_UNKNOWN}}
        for index, insn in enumerate(insns):
            if index in self.predecessors:
                self._visit(index, insn)
        # Instructions that load A, or use it, in the packet's byte order, with the size of the load.
        self.raw = self._find_raw()

    def is_return(self, index: int) -> bool:
        return self._insns[index].code & 7 == Class.RET

    def _visit(self, index: int, insn: Insn) -> None:
        needs = [self.needs[before] for before in self.predecessors[index]] or [1]
        if not self.is_return(index):
            self.checks.update(before for before in self.predecessors[index] if self.needs[before] > min(needs))
        self.needs[index] = max(min(needs), load_end(insn))
        values = self._values[index]
        match Class(insn.code & 7):
            case Class.LD:
                swappable = load_mode(insn) in (Mode.ABS, Mode.IND) and load_size(insn) in _SWAPPABLE
                values = {index if swappable else _UNKNOWN}
            case Class.ALU if insn.code & 0xF8 != Alu.AND:
                values = {_UNKNOWN}
            case Class.MISC if insn.code & 0xF8 == TXA:
                values = {_UNKNOWN}
        for after in self._successors(index, insn):
            self.predecessors.setdefault(after, []).append(index)
            self._values.setdefault(after, set()).update(values)

    def _successors(self, index: int, insn: Insn) -> set[int]:
        match Class(insn.code & 7):
            case Class.RET:
                return set()
            case Class.JMP if insn.code & 0xF0 == 0:
                if insn.k > MAX_OFFSET:
                    raise PwruError(
                        "pcap filter: `protochain` needs a loop, which cannot run here; "
                        "name the protocol that follows instead, for example `ip6 proto 43`"
                    )
                return {index + 1 + insn.k}
            case Class.JMP:
                return {index + 1 + insn.jt, index + 1 + insn.jf}
            case _:
                return {index + 1}

    def _find_raw(self) -> dict[int, Size]:
        sizes = {_UNKNOWN: Size.B}
        uses = []
        for index, values in self._values.items():
            for value in values - sizes.keys():
                sizes[value] = load_size(self._insns[value])
            if _uses_a(self._insns[index]):
                uses.append((index, values))
        host = {_UNKNOWN}
        changed = True
        while changed:
            changed = False
            for index, values in uses:
                loaded = sizes[min(values)]
                same = all(sizes[value] is loaded for value in values)
                if not same or values & host or not works_swapped(self._insns[index], loaded):
                    changed |= not values <= host
                    host |= values
        raw = {value: loaded for value, loaded in sizes.items() if value not in host}
        return raw | {index: sizes[min(values)] for index, values in uses if not values & host}

    def second_word(self, index: int) -> int | None:
        """Return the load of the next word of the packet, if just a comparison lies between it and the load `index`."""
        first = self._insns[index]
        if first.code != _LD_W_ABS or index not in self.raw or self.predecessors[index + 1] != [index]:
            return None
        compare = self._insns[index + 1]
        if compare.code != Class.JMP | Jump.EQ:
            return None
        for second in (index + 2 + compare.jt, index + 2 + compare.jf):
            insn = self._insns[second]
            adjacent = (insn.code, insn.k) == (_LD_W_ABS, first.k + 4)
            if adjacent and second in self.raw and self.predecessors[second] == [index + 1]:
                return second
        return None


def _uses_a(insn: Insn) -> bool:
    """Return whether the value of A matters to the instruction."""
    match Class(insn.code & 7):
        case Class.ST | Class.ALU:
            return True
        case Class.JMP:
            return bool(insn.code & 0xF0)
        case Class.RET:
            return insn.code & 0x18 == RET_A
        case Class.MISC:
            return insn.code & 0xF8 != TXA
    return False
