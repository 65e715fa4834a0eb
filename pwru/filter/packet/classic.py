"""Classic BPF: its instructions, and rewritten programs for packets that lack a part of their link-layer header."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from pwru.ebpf import Alu, Jump, Size

from . import Insn


# Opcodes (pcap/bpf.h). Sizes, ALU operations and jump conditions have the same numbers as in eBPF.
class Class(IntEnum):
    LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)


class Mode(IntEnum):
    """The ways in which LD and LDX find their operand.

    The last two are not of classic BPF: ABS and IND at an offset of the frame on the wire, of which the packet lacks a
    part (see Gap).
    """

    IMM, ABS, IND, MEM, LEN, MSH, WIRE_ABS, WIRE_IND = range(0x00, 0x100, 0x20)


X = 0x08
RET_A = 0x10
TXA = 0x80
_JA = Class.JMP  # without a condition
_REACH = 256  # from an instruction to the farthest that a conditional jump leads to
REJECT = Insn(int(Class.RET), 0, 0, 0)

MAX_OFFSET = 0x7FFFFFFF  # no packet is that long (skb->len is less than 2 GB), and immediates are signed

# What the packet's own bytes lack of the frame on the wire: with_tag() and without_mac() let the program read it as
# scratch words M[AT_TAG + n], beyond the 16 real ones. Each stands for what begins at byte 12 + n, of any size.
AT_TAG = 16


class Gap(NamedTuple):
    """The bytes from `start` to `end` of the frame on the wire, which are at M[AT_TAG].

    The packet's own bytes lack `missing` bytes before `end`. If that is more than the gap, those before `start` are 0.
    """

    start: int
    end: int
    missing: int


TAG_GAP, MAC_GAP = Gap(12, 16, 4), Gap(12, 14, 14)


def load_mode(insn: Insn) -> Mode | None:
    """Return the mode of LD or LDX; None for other instructions."""
    return Mode(insn.code & 0xE0) if insn.code & 7 in (Class.LD, Class.LDX) else None


def load_size(insn: Insn) -> Size:
    return Size(insn.code & 0x18)


def uses_x(insn: Insn) -> bool:
    match Class(insn.code & 7):
        case Class.LD:
            return load_mode(insn) in (Mode.IND, Mode.WIRE_IND)
        case Class.ALU | Class.JMP:
            return bool(insn.code & X)
        case insn_class:
            return insn_class in (Class.LDX, Class.STX, Class.MISC)


def loads_len(insns: Sequence[Insn]) -> bool:
    return any(load_mode(insn) is Mode.LEN for insn in insns)


def load_end(insn: Insn) -> int:
    """Return the end of a load from the packet at a constant offset; 0 for other instructions."""
    return insn.k + load_size(insn).nbytes if load_mode(insn) in (Mode.ABS, Mode.MSH) else 0


def impossible_offset(insns: Sequence[Insn]) -> int | None:
    """Return an offset that the program loads from and no packet has, if it has such a load."""
    for insn in insns:
        if load_mode(insn) in (Mode.ABS, Mode.MSH, Mode.IND) and insn.k + load_size(insn).nbytes > MAX_OFFSET:
            return insn.k
    return None


def works_swapped(insn: Insn, loaded: Size) -> bool:
    """Return whether the result is the same with both sides, the load and the constant, in the packet's byte order."""
    if insn.code & 7 == Class.ALU:
        return insn.code & 0xF8 == Alu.AND
    return insn.code in (Class.JMP | Jump.SET, Class.JMP | Jump.EQ) and (
        insn.code & 0xF0 == Jump.SET or not insn.k >> 8 * loaded.nbytes
    )


def swap(value: int, loaded: Size) -> int:
    """Return the constant in the packet's byte order."""
    mask = (1 << 8 * loaded.nbytes) - 1
    return int.from_bytes((value & mask).to_bytes(loaded.nbytes, "big"), "little")


def within_reach(insns: Sequence[Insn]) -> list[Insn]:
    """Return the same program with conditional jumps of 255 instructions at most, as struct bpf_insn can have them.

    A longer one leads to a jump without a condition, which has 32 bits.
    """
    long = set[int]()
    while True:
        starts = [number + 2 * sum(other < number for other in long) for number in range(len(insns) + 1)]
        jumps = {
            n: (starts[n + 1 + insn.jt], starts[n + 1 + insn.jf]) for n, insn in enumerate(insns) if _branches(insn)
        }
        new = {n for n, targets in jumps.items() if n not in long and max(targets) - starts[n] > _REACH}
        if not new:
            break
        long |= new
    made = list[Insn]()
    for number, insn in enumerate(insns):
        here = starts[number] + 1
        if number in long:
            true, false = jumps[number]
            made += (insn._replace(jt=0, jf=1), Insn(_JA, 0, 0, true - here - 1), Insn(_JA, 0, 0, false - here - 2))
        elif number in jumps:
            true, false = jumps[number]
            made.append(insn._replace(jt=true - here, jf=false - here))
        else:
            made.append(insn._replace(k=starts[number + 1 + insn.k] - here) if insn.code == _JA else insn)
    return made


def _branches(insn: Insn) -> bool:
    return insn.code & 7 == Class.JMP and insn.code != _JA


def with_tag(insns: Sequence[Insn]) -> list[Insn]:
    """Return the program for an Ethernet packet whose bytes lack the VLAN tag that it has on the wire."""
    return [_shift(insn, TAG_GAP) for insn in insns]


def without_mac(insns: Sequence[Insn]) -> list[Insn]:
    """Return the program for an Ethernet packet that lacks its link-layer header; the EtherType is at M[AT_TAG].

    Both addresses are 00:00:00:00:00:00.
    """
    return [
        insn._replace(code=insn.code & 7 | Mode.IMM, k=0)
        if 0 < load_end(insn) <= MAC_GAP.start
        else _shift(insn, MAC_GAP)
        for insn in insns
    ]


def _shift(insn: Insn, gap: Gap) -> Insn:
    """Return a load for a packet without the gap, whose bytes after it are at smaller offsets than on the wire."""
    mode = load_mode(insn)
    if mode not in (Mode.ABS, Mode.MSH, Mode.IND) or 0 < load_end(insn) <= gap.start:
        return insn
    if insn.k >= gap.end:
        return insn._replace(k=insn.k - gap.missing)
    if mode is not Mode.IND and insn.k >= gap.start and load_end(insn) <= gap.end:
        return insn._replace(code=insn.code & 0x1F | Mode.MEM, k=AT_TAG + insn.k - gap.start)
    # It overlaps an end of the gap, or only the run shows where it is. libpcap's `port` after an Ethernet header is a
    # load at X + 14, whatever X is, and MSH is a single byte.
    return insn._replace(code=insn.code & 0x1F | (Mode.WIRE_IND if mode is Mode.IND else Mode.WIRE_ABS))
