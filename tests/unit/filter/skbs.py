"""A kernel in miniature for expressions: its BTF, memory with skbs in it, and random conditions with their meaning.

The meaning is C's (C11, 6.3.1), worked out here without the code that is tested: where fields are is written down in
FIELDS, and a condition is made together with a function that says what it is for an skb.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from pwru.kernel.btf import Btf
from tests.unit.kernel.btf_writer import Writer

from .harness import SKBS_DATA, SKBS_SIZE

SKB_SIZE, DEVICE_SIZE = 192, 64


@dataclass(frozen=True)
class Field:
    """`way` has the offsets of the pointers to it. `first` is its first bit from where the last pointer points."""

    text: str
    way: tuple[int, ...]
    first: int
    bits: int
    signed: bool = False


def _fields() -> list[Field]:
    skb = [
        Field("next", (), 0, 64),
        Field("dev", (), 64, 64),
        Field("len", (), 128, 32),
        Field("err", (), 160, 32, True),
        Field("u8", (), 192, 8),
        Field("s8", (), 200, 8, True),
        Field("u16", (), 208, 16),
        Field("s16", (), 224, 16, True),
        Field("s64", (), 256, 64, True),
        Field("u64", (), 320, 64),
        Field("cb[0]", (), 384, 8, True),
        Field("cb[47]", (), 760, 8, True),
        Field("pkt_type", (), 768, 3),
        Field("cloned", (), 771, 1),
        Field("nibble", (), 772, 4, True),
        Field("eleven", (), 779, 11),
        Field("most", (), 801, 31),
        Field("signed_most", (), 832, 31, True),
        Field("deep", (), 900, 40),
        Field("mark", (), 960, 32),
        Field("offload", (), 960, 32),
        Field("state", (), 992, 32),
        Field("sstate", (), 1024, 32, True),
        Field("hdr.a", (), 1056, 16),
        Field("hdr.b", (), 1072, 16, True),
        Field("hdr.c[0][1]", (), 1120, 32),
        Field("hdr.c[1][2]", (), 1248, 32),
        Field("hdr.flag", (), 1282, 2),
        Field("destructor", (), 1408, 64),
        Field("flag", (), 1472, 8),
    ]
    device = [
        Field("ifindex", (8,), 0, 32, True),
        Field("addr[5]", (8,), 168, 8),
        Field("mtu", (8,), 192, 32),
        Field("next->ifindex", (8, 8), 0, 32, True),
        Field("next->next->mtu", (8, 8, 8), 192, 32),
    ]
    of_next = [Field(f"next->{f.text}", (0, *f.way), f.first, f.bits, f.signed) for f in skb[2:12]]
    fields = [Field(f"skb->{f.text}", f.way, f.first, f.bits, f.signed) for f in skb + of_next]
    fields += [Field(f"skb->dev->{f.text}", f.way, f.first, f.bits, f.signed) for f in device]
    return [*fields, Field("skb->dev[1].ifindex", (8,), 8 * DEVICE_SIZE, 32, True)]


FIELDS = _fields()
CONSTANTS = {"LISTEN": 10, "CLOSED": 7, "HIGH": 0xFFFFFFF0, "MINUS": -2, "WIDE": 1 << 40}


@cache
def btf() -> Btf:
    w = Writer()
    u8, s8 = w.integer("unsigned char", 1), w.integer("signed char", 1, signed=True)
    u16, s16 = w.integer("unsigned short", 2), w.integer("short", 2, signed=True)
    u32, s32 = w.integer("unsigned int", 4), w.integer("int", 4, signed=True)
    u64, s64 = w.integer("long unsigned int", 8), w.integer("long int", 8, signed=True)
    wide = w.integer("__int128", 16)
    state = w.enum("state", ("CLOSED", 7), ("LISTEN", 10), ("HIGH", 0xFFFFFFF0), ("TWICE", 1))
    sstate = w.enum("sstate", ("MINUS", -2), ("TWICE", 2), signed=True)
    w.enum64("wide", ("WIDE", 1 << 40))
    numbers = w.array(w.array(u32, u32, 3), u32, 2)
    header = w.bitfields("hdr", 28, ("a", u16, 0, 0), ("b", s16, 16, 0), ("c", numbers, 32, 0), ("flag", u8, 226, 2))
    offload = w.struct("", 4, ("offload", w.ref("TYPEDEF", u32, "__u32"), 0))
    union = w.struct("", 4, ("mark", w.ref("CONST", u32), 0), ("", offload, 0), kind="UNION")
    boolean, function = w.integer("_Bool", 1), w.ref("PTR", w.proto(u32))
    absent, nothing, to_numbers = w.ref("PTR", w.add("FWD", "absent", 0)), w.ref("PTR", 0), w.ref("PTR", u32)
    declared = w.add("FWD", "net_device", 0)
    six, cb, flexible = w.array(u8, u32, 6), w.array(s8, u32, 48), w.array(u8, u32, 0)
    double = w.add("FLOAT", "double", 8)
    pointer = w.ref("PTR", w.next_id + 1)
    w.struct(
        "net_device", DEVICE_SIZE,
        ("ifindex", s32, 0), ("next", pointer, 64), ("addr", six, 128), ("mtu", u32, 192), ("absent", absent, 256),
        ("nothing", nothing, 320), ("numbers", to_numbers, 384),
    )  # fmt: skip
    qualified = w.ref("PTR", w.ref("CONST", declared))
    pointer = w.ref("PTR", w.next_id + 1)
    w.bitfields(
        "sk_buff", SKB_SIZE,
        ("next", pointer, 0, 0), ("dev", qualified, 64, 0), ("len", u32, 128, 0), ("err", s32, 160, 0),
        ("u8", u8, 192, 0), ("s8", s8, 200, 0), ("u16", u16, 208, 0), ("s16", s16, 224, 0), ("s64", s64, 256, 0),
        ("u64", u64, 320, 0), ("cb", cb, 384, 0), ("pkt_type", u8, 768, 3), ("cloned", u8, 771, 1),
        ("nibble", s8, 772, 4), ("eleven", u16, 779, 11), ("most", u32, 801, 31), ("signed_most", s32, 832, 31),
        ("deep", u64, 900, 40), ("", union, 960, 0), ("state", state, 992, 0), ("sstate", sstate, 1024, 0),
        ("hdr", header, 1056, 0), ("wide", wide, 1280, 0), ("destructor", function, 1408, 0),
        ("flag", boolean, 1472, 0), ("real", double, 1472, 0), ("rest", flexible, 1480, 0),
    )  # fmt: skip
    return Btf(w.data())


# --- memory ---

_DEVICES = [SKBS_DATA + 8 + DEVICE_SIZE * n for n in range(4)]
SKBS = [_DEVICES[-1] + 2 * DEVICE_SIZE + SKB_SIZE * n for n in range(8)]
# NULL, what a user may have, not canonical, an error code, the end of all
_BAD = [0, 0, 0x7FFF00001000, 0xDEAD000000000100, (1 << 64) - 22, (1 << 64) - 8]


class Memory:
    """Random skbs and devices, with pointers to each other and to nowhere."""

    def __init__(self, rng: Random) -> None:
        self._data = bytearray(rng.choice(b"\0\1\x7f\x80\xff" + rng.randbytes(3)) for _ in range(SKBS_SIZE))
        pointers = [(device + 8, _DEVICES) for device in _DEVICES]
        pointers += [(skb + at, to) for skb in SKBS for at, to in ((0, SKBS), (8, _DEVICES))]
        self._pointers = [(at, rng.choice(to) if rng.random() < 0.8 else None, rng.choice(_BAD)) for at, to in pointers]
        self.address = 0

    def at(self, address: int) -> bytes:
        """Return all of it, beginning at that address."""
        self.address = address
        for at, to, bad in self._pointers:
            struct.pack_into("<Q", self._data, at, bad if to is None else address + to)
        return bytes(self._data)

    def read(self, address: int, size: int) -> bytes:
        start = (address & (1 << 64) - 1) - self.address
        return bytes(self._data[start : start + size]) if 0 <= start <= SKBS_SIZE - size else bytes(size)

    def store(self, field: Field, skb: int, value: int) -> None:
        """Change a field of the skb itself."""
        assert not field.way
        at = skb + field.first // 8
        mask = (1 << field.bits) - 1 << field.first % 8
        old = int.from_bytes(self._data[at : at + 9], "little")
        new = old & ~mask | (value << field.first % 8 & mask)
        self._data[at : at + 9] = new.to_bytes(9, "little")

    def field(self, field: Field, skb: int) -> int:
        at = self.address + skb
        for offset in field.way:
            at = int.from_bytes(self.read(at + offset, 8), "little")
        first = at + field.first // 8
        value = int.from_bytes(b"".join(self.read(first + n, 1) for n in range(9)), "little") >> field.first % 8
        return convert(value, (field.bits, field.signed))


# --- conditions ---

Type = tuple[int, bool]  # bits, signed
Values = Callable[[Memory, int], int]
Truth = Callable[[Memory, int], bool]


def convert(value: int, to: Type) -> int:
    bits, signed = to
    value %= 2**bits
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value


def _calculated(a: Type, b: Type) -> Type:
    """Return the type that C calculates with."""
    (a_bits, a_signed), (b_bits, b_signed) = (
        (32, True) if t[0] < 32 else (32 if t[0] == 32 else 64, t[1]) for t in (a, b)
    )
    if (64, False) in ((a_bits, a_signed), (b_bits, b_signed)):
        return 64, False
    if 64 in (a_bits, b_bits):
        return 64, True
    return 32, a_signed and b_signed


def _spelt(rng: Random, value: int) -> tuple[str, Type]:
    """Return a number in one of the ways to write it, and the type that C gives it."""
    names = [name for name, constant in CONSTANTS.items() if constant == value]
    if names and rng.random() < 0.5:
        return names[0], (32, True) if value < 2**31 else (32, False) if value < 2**32 else (64, True)
    size = abs(value)
    spelling = rng.choice(("{}", "{:#x}", "0{:o}"))
    text = ("-" if value < 0 else "") + spelling.format(size)
    if size < 2**31:
        return text, (32, True)
    if size < 2**32 and spelling != "{}":
        return text, (32, False)
    return text, (64, size < 2**63)


_SOME = [
    0,
    1,
    2,
    7,
    10,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF0,
    1 << 40,
    2**63,
    2**64 - 1,
]


def _number(rng: Random) -> tuple[str, Type, Values]:
    value = rng.choice(_SOME) if rng.random() < 0.8 else rng.getrandbits(rng.choice((8, 16, 32, 64)))
    if rng.random() < 0.2 and value <= 2**31:
        value = -value
    text, kind = _spelt(rng, value)
    value = convert(value, kind)
    if rng.random() < 0.1 and text[0].isdigit():
        text, value = f"~{text}", convert(~value, kind)
    return text, kind, lambda _memory, _skb: value


def _of_field(rng: Random) -> tuple[str, Type, Values]:
    field = rng.choice(FIELDS)
    return field.text, (field.bits, field.signed), lambda memory, skb: memory.field(field, skb)


def _masked(rng: Random, depth: int) -> tuple[str, Type, Values]:
    if depth <= 0 or rng.random() < 0.6:
        return _of_field(rng) if rng.random() < 0.8 else _number(rng)
    text, kind, values = _masked(rng, depth - 1)
    for _ in range(rng.randint(1, 3)):
        other_text, other_kind, other = _masked(rng, depth - 2)
        if " & " in other_text:
            other_text = f"({other_text})"
        text = f"{text} & {other_text}"
        common = _calculated(kind, other_kind)

        def both(memory: Memory, skb: int, left: Values = values, right: Values = other, common: Type = common) -> int:
            return convert(convert(left(memory, skb), common) & convert(right(memory, skb), common), common)

        kind, values = common, both
    return text, kind, values


_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _comparison(rng: Random) -> tuple[str, Truth]:
    left_text, left_type, left = _masked(rng, 3)
    right_text, right_type, right = _masked(rng, 3)
    number = None
    if rng.random() < 0.6:
        # Near what the field may be, or all would be unequal.
        left_text, left_type, left = _of_field(rng)
        number = convert(rng.choice(_SOME), left_type)
        right_text, right_type = _spelt(rng, number)
        value = convert(number, right_type)
        right = lambda _memory, _skb: value  # noqa: E731
        if rng.random() < 0.2:
            left_text, left_type, left, right_text, right_type, right = (
                *(right_text, right_type, right),
                *(left_text, left_type, left),
            )
    operator = rng.choice(list(_OPERATORS))
    common = _calculated(left_type, right_type)
    compare = _OPERATORS[operator]
    return (
        f"{left_text} {operator} {right_text}",
        lambda memory, skb: compare(convert(left(memory, skb), common), convert(right(memory, skb), common)),
    )


def condition(rng: Random, depth: int = 3) -> tuple[str, Truth]:
    """Return a text and its meaning for an skb. Some compare a field with a number that it cannot have."""
    kind = rng.randrange(6)
    if depth <= 0 or kind == 0:
        return _comparison(rng)
    if kind == 1:
        text, _, values = _masked(rng, 2)
        return text, lambda memory, skb: values(memory, skb) != 0
    if kind == 2:
        text, truth = condition(rng, depth - 1)
        return f"!({text})", lambda memory, skb: not truth(memory, skb)
    parts = [condition(rng, depth - 1) for _ in range(rng.randint(2, 3))]
    # || below && needs parentheses; everywhere else they may be.
    operator = rng.choice(("&&", "||"))
    text = f" {operator} ".join(f"({t})" if "||" in t or rng.random() < 0.2 else t for t, _ in parts)
    decide = all if operator == "&&" else any
    return text, lambda memory, skb: decide(truth(memory, skb) for _, truth in parts)
