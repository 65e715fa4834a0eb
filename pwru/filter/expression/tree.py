"""The tree of an expression, with the types that C gives its numbers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pwru.ebpf import Size


class Root(NamedTuple):
    """What an expression is about: its name there, and the struct that it is. `example`: a condition, for messages."""

    name: str
    struct: str
    example: str

    @property
    def field(self) -> str:
        """An example of a field."""
        return self.example.split()[0]


SKB = Root("skb", "sk_buff", "skb->len > 1000")
XDP = Root("xdp", "xdp_buff", "xdp->rxq->queue_index == 0")


class Mistake(Exception):
    """An error in an expression, at a column (from 1); 0 stands for the whole expression."""

    def __init__(self, message: str, column: int = 0) -> None:
        super().__init__(f"column {column}: {message}" if column else message)


class CType(NamedTuple):
    """The type of a number in C: how many bits, and whether one of them is a sign."""

    bits: int
    signed: bool

    def wrap(self, value: int) -> int:
        """Convert a number to this type."""
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value >> self.bits - 1 else value

    def promoted(self) -> CType:
        """Return the type used in calculations (C11, 6.3.1.1); int holds everything narrower."""
        return INT if self.bits < INT.bits else CType(32 if self.bits == INT.bits else 64, self.signed)

    def common(self, other: CType) -> CType:
        """Return the type as which both are compared (C11, 6.3.1.8)."""
        left, right = self.promoted(), other.promoted()
        if left.bits == right.bits:
            return CType(left.bits, left.signed and right.signed)
        return max(left, right)


INT = CType(32, signed=True)
_QUOTED = 40  # characters of a word in a message


def quote(word: str) -> str:
    return repr(word if len(word) <= _QUOTED else f"{word[:_QUOTED]}…")


def literal_type(value: int, *, decimal: bool) -> CType:
    """Return the first type that fits (C11, 6.4.4.1): signed in decimal; in hex, and from an enum, perhaps unsigned."""
    candidates = (INT, CType(64, signed=True)) if decimal else (INT, CType(32, False), CType(64, True))
    return next((ctype for ctype in candidates if ctype.wrap(value) == value), CType(64, signed=False))


class Number(NamedTuple):
    value: int
    type: CType


class FieldLoad(NamedTuple):
    """A field of the root.

    `pointers` are offsets of the pointers to it: of the first in the root, of each other in what the one before points
    to. The field is at `offset` in what the last one points to; `shift` bits of the loaded word are below a bitfield.
    """

    path: str
    type: CType
    pointers: tuple[int, ...]
    offset: int
    size: Size
    shift: int


class Mask(NamedTuple):
    """`&` with two or more operands."""

    operands: list[Operand]
    type: CType


class Comparison(NamedTuple):
    operator: str
    left: Operand
    right: Operand


class Not(NamedTuple):
    operand: Node


class Logical(NamedTuple):
    """`&&` (all must be true) or `||` (one must be), with two or more operands."""

    all: bool
    operands: list[Node]


Operand = Number | FieldLoad | Mask
Node = Operand | Comparison | Not | Logical


class Path(Protocol):
    """A field as far as it has been read. A column is where a message points. All but describe_type() raise Mistake."""

    def apply(self, operator: str, column: int) -> None:
        """Check that the type allows the operator, and follow the pointer if it is one."""

    def index(self, number: int, column: int) -> None: ...

    def member(self, operator: str, name: str, column: int) -> None: ...

    def check_offset(self, column: int) -> None: ...

    def describe_type(self) -> str: ...

    def load(self, column: int) -> FieldLoad:
        """Return the load of the field, which must be a number or a pointer."""


class Fields(Protocol):
    """The fields and constants that an expression may name."""

    @property
    def root(self) -> Root: ...

    def path(self, column: int) -> Path:
        """Return the path to the root."""

    def constant(self, name: str, column: int) -> int:
        """Return the value of a constant. Raises Mistake."""
