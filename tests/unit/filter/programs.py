"""Random classic BPF programs: every instruction of pcap/bpf.h, in more combinations than libpcap makes of expressions.

They are valid (bpf_validate()): jumps are forward and inside, no constant division by zero, no constant shift by more
than 31. Words of M[] are stored before they are loaded, which bpf_filter() leaves to its caller.
"""

from __future__ import annotations

from random import Random

from pwru.filter.packet import Insn

LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = range(0x00, 0xC0, 0x20)
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0x00, 0xB0, 0x10)
JA, JEQ, JGT, JGE, JSET = range(0x00, 0x50, 0x10)
K, X = 0x00, 0x08
RET_A, TAX, TXA = 0x10, 0x00, 0x80

_CONSTANTS = [0, 1, 2, 4, 7, 31, 32, 33, 255, 0x0800, 0xFFFF, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_OFFSETS = [0, 1, 2, 3, 6, 9, 12, 14, 20, 23, 26, 30, 33, 47, 60, 100, 131, 200, 0x7FFFFFFC, 0x7FFFFFFF, 0xFFFFFFFF]


def program(rng: Random) -> list[Insn]:
    insns = [Insn(ST, 0, 0, k) for k in range(16)] if rng.random() < 0.5 else []
    memory = bool(insns)
    length = rng.randint(1, 40)
    for left in range(length, 0, -1):
        insns.append(_insn(rng, left, memory))
    # What falls through says something about A and X.
    insns += [Insn(ALU | XOR | X, 0, 0, 0), Insn(ALU | AND | K, 0, 0, 1), Insn(RET | RET_A, 0, 0, 0)]
    return insns


def _insn(rng: Random, left: int, memory: bool) -> Insn:
    """An instruction with `left` - 1 more before the last three."""
    k = rng.choice(_CONSTANTS) if rng.random() < 0.7 else rng.randrange(1 << 32)
    match rng.randrange(12):
        case 0 | 1:
            return Insn(LD | ABS | rng.choice([W, H, B]), 0, 0, _offset(rng))
        case 2:
            return Insn(LD | IND | rng.choice([W, H, B]), 0, 0, _offset(rng))
        case 3:
            return rng.choice(
                [Insn(LDX | MSH | B, 0, 0, _offset(rng)), Insn(LDX | IMM, 0, 0, rng.choice([k, rng.randrange(64)]))]
            )
        case 4:
            return rng.choice([Insn(LD | IMM, 0, 0, k), Insn(LD | LEN, 0, 0, 0), Insn(LDX | LEN, 0, 0, 0)])
        case 5 if memory:
            return Insn(rng.choice([LD | MEM, LDX | MEM, ST, STX]), 0, 0, rng.randrange(16))
        case 6 | 7:
            operation = rng.choice([ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, MOD, XOR])
            if rng.random() < 0.4:
                return Insn(ALU | operation | X, 0, 0, 0)
            if operation in (LSH, RSH):
                k %= 32
            return Insn(ALU | operation | K, 0, 0, k or int(operation in (DIV, MOD)))
        case 8:
            return rng.choice([Insn(ALU | NEG, 0, 0, 0), Insn(MISC | TAX, 0, 0, 0), Insn(MISC | TXA, 0, 0, 0)])
        case 9 | 10:
            condition = rng.choice([JEQ, JGT, JGE, JSET])
            return Insn(JMP | condition | rng.choice([K, X]), rng.randrange(left), rng.randrange(left), k)
        case 11 if rng.random() < 0.5:
            return rng.choice(
                [
                    Insn(RET | RET_A, 0, 0, 0),
                    Insn(RET | K, 0, 0, rng.choice([0, 1, 0x40000])),
                    Insn(JMP | JA, 0, 0, rng.randrange(left)),
                ]
            )
    return Insn(MISC | TAX, 0, 0, 0)


def _offset(rng: Random) -> int:
    return rng.choice(_OFFSETS) if rng.random() < 0.2 else rng.randrange(40)
