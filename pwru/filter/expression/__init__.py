"""Conditions on fields of the skb, such as `skb->dev->ifindex == 1 && skb->len > 1000`, to eBPF: the body of
`int filter_skb(__u64 skb)`, see bpf/filter.bpf.h.

They mean what they mean in C, conversions between signed and unsigned included, with one exception: `&` binds tighter
than comparisons, as everybody who writes `skb->mark & 0xff == 1` wants it. A field is read where this kernel's BTF says
that it is. What cannot be read, because a pointer on the way is NULL or bad, is 0.

The parser checks all that can be wrong, so that a mistake is told with its column; what it makes is a tree of the
tuples below. `&&`, `||` and `&` have many operands instead of two, so only parentheses and `!` nest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pwru.ebpf import R0, R1, R6, R7, R8, R10, Alu, Assembler, Jump, Label, Reg, Size
from pwru.errors import PwruError
from pwru.filter.load import Cast, address_register, lead, load
from pwru.kernel.btf import ARRAY, ENUM, ENUM64, FWD, INT, PTR, STRUCT, UNION, Btf, Type

_T = TypeVar("_T")

_FLAG = "--filter-skb-expr"
_MAX_LENGTH = 4096  # characters: far fewer instructions than a jump can pass
_MAX_NESTING = 16  # each level may need 8 bytes of stack
_MAX_OFFSET = 0x7FFFFFFF  # of an immediate
_QUOTED = 40  # characters of a word in a message

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>[0-9]\w*)|(?P<op>->|==|!=|<=|>=|&&|\|\||\S)|(?P<end>\Z))", re.ASCII
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", re.ASCII)

_SIZES = {size.nbytes: size for size in sorted(Size, key=lambda size: size.nbytes)}
_INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRROR = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_UNSIGNED = {"==": Jump.EQ, "!=": Jump.NE, "<": Jump.LT, "<=": Jump.LE, ">": Jump.GT, ">=": Jump.GE}
_SIGNED = {"==": Jump.EQ, "!=": Jump.NE, "<": Jump.SLT, "<=": Jump.SLE, ">": Jump.SGT, ">=": Jump.SGE}


class Value(NamedTuple):
    """What compile_value() returns in r0: a field of `size` bytes, extended to 64 bits according to its sign."""

    name: str
    size: int
    signed: bool


def compile_condition(text: str, btf: Btf, cast: Cast | None) -> bytes:
    """The eBPF instructions of a function that takes the address of an skb and returns 1 or 0.

    `btf` and `cast` are the kernel's. Raises PwruError that says where the expression is wrong.
    """
    parser = _Parser(text, btf, _FLAG)
    return _Code(cast).condition(parser.whole(parser.condition))


def compile_value(text: str, btf: Btf, cast: Cast | None, flag: str) -> tuple[bytes, Value]:
    """The same for the value of one field; `flag` is the one that messages are about."""
    parser = _Parser(text, btf, flag)
    field = parser.whole(parser.field)
    return _Code(cast).value(field), Value(field.path, field.size.nbytes, field.type.signed)


# --- the tree ---


class _Type(NamedTuple):
    """Of a number in C: how many bits, and whether one is the sign."""

    bits: int
    signed: bool

    def wrap(self, value: int) -> int:
        """Converted to this type."""
        value &= (1 << self.bits) - 1
        return value - (1 << self.bits) if self.signed and value >> self.bits - 1 else value

    def promoted(self) -> _Type:
        """What it is calculated with as: C11, 6.3.1.1; int holds all that is narrower."""
        return _INT if self.bits < _INT.bits else _Type(32 if self.bits == _INT.bits else 64, self.signed)

    def common(self, other: _Type) -> _Type:
        """What both are compared as: C11, 6.3.1.8."""
        left, right = self.promoted(), other.promoted()
        if left.bits == right.bits:
            return _Type(left.bits, left.signed and right.signed)
        return max(left, right)


_INT = _Type(32, signed=True)


class _Number(NamedTuple):
    value: int
    type: _Type


class _Field(NamedTuple):
    """To be read at `offset` behind the last of the pointers, which are themselves at offsets; the first behind skb.

    `shift` is how many bits of what is read are below a bitfield.
    """

    path: str
    type: _Type
    pointers: tuple[int, ...]
    offset: int
    size: Size
    shift: int


class _Mask(NamedTuple):
    operands: list[_Operand]
    type: _Type


class _Comparison(NamedTuple):
    operator: str
    left: _Operand
    right: _Operand


class _Not(NamedTuple):
    operand: _Node


class _Several(NamedTuple):
    """Whether all of them are true, or any."""

    all: bool
    operands: list[_Node]


_Operand = _Number | _Field | _Mask
_Node = _Operand | _Comparison | _Not | _Several


# --- text → tree ---


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


class _Parser:
    def __init__(self, text: str, btf: Btf, flag: str) -> None:
        self._btf = btf
        self._flag = flag
        if not text.strip():
            raise PwruError(f"{flag}: it is empty; an example: skb->len > 1000")
        if len(text) > _MAX_LENGTH:
            raise PwruError(f"{flag}: it has {len(text)} characters, {_MAX_LENGTH} are possible")
        self._tokens = [
            _Token(str(match.lastgroup), match[match.lastgroup or 0], match.start(match.lastgroup or 0) + 1)
            for match in _TOKEN.finditer(text)
        ]
        self._at = 0
        self._nesting = 0

    def whole(self, part: Callable[[], _T]) -> _T:
        found = part()
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end")
        return found

    # --- tokens ---

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *operators: str) -> _Token | None:
        """The token, if it is one of these."""
        return self._next() if self._token.kind == "op" and self._token.text in operators else None

    def _error(self, column: int, text: str) -> PwruError:
        return PwruError(f"{self._flag}: column {column}: {text}")

    def _unexpected(self, wanted: str) -> PwruError:
        _, text, column = self._token
        if text == "=":
            return self._error(column, "to compare, write `==`")
        return self._error(column, f"{_quoted(text) if text else 'it ends'} where {wanted} should be")

    # --- grammar ---

    def condition(self) -> _Node:
        return self._several("||", lambda: self._several("&&", self._comparison))

    def _several(self, operator: str, part: Callable[[], _Node]) -> _Node:
        operands = [part()]
        while self._take(operator):
            operands.append(part())
        return _Several(operator == "&&", operands) if len(operands) > 1 else operands[0]

    def _comparison(self) -> _Node:
        start = self._token
        left = self._mask()
        operator = self._take(*_INVERSE)
        if not operator:
            return left
        left = self._number_like(left, start, operator)
        start = self._token
        right = self._number_like(self._mask(), start, operator)
        if again := self._take(*_INVERSE):
            raise self._error(
                again.column, f"comparisons cannot be chained; join two of them with && before `{again.text}`"
            )
        for field, number in ((left, right), (right, left)):
            if isinstance(field, _Field) and isinstance(number, _Number):
                self._check_range(field, number, start)
        return _Comparison(operator.text, left, right)

    def _check_range(self, field: _Field, number: _Number, start: _Token) -> None:
        """A number that the field cannot be, so that the comparison would always say the same."""
        common = field.type.common(number.type)
        value = common.wrap(number.value)
        if common.wrap(field.type.wrap(value)) != value:
            bits, signed = field.type
            kind = "signed" if signed else "unsigned"
            raise self._error(start.column, f"`{field.path}` ({bits} bits, {kind}) cannot be {number.value}")

    def _mask(self) -> _Node:
        start = self._token
        found = self._unary()
        while operator := self._take("&"):
            left = self._number_like(found, start, operator)
            start = self._token
            right = self._number_like(self._unary(), start, operator)
            kind = left.type.common(right.type)
            found = _Mask([*left.operands, right] if isinstance(left, _Mask) else [left, right], kind)
        return found

    def _number_like(self, node: _Node, start: _Token, operator: _Token) -> _Operand:
        if isinstance(node, _Number | _Field | _Mask):
            return node
        raise self._error(
            start.column,
            f"this is true or false, but `{operator.text}` takes numbers; parentheses say what belongs together",
        )

    def _unary(self) -> _Node:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self._error(self._token.column, f"it is nested more than {_MAX_NESTING} deep")
        found: _Node
        if self._take("!"):
            found = _Not(self._unary())
        elif self._take("("):
            found = self.condition()
            if not self._take(")"):
                raise self._unexpected("`)`")
        elif self._take("-"):
            value, kind = self._number()
            found = _Number(kind.wrap(-value), kind)
        elif self._take("~"):
            value, kind = self._number()
            found = _Number(kind.wrap(~value), kind)
        elif self._token.kind == "number":
            found = self._number()
        elif self._token.kind == "name":
            found = self.field() if self._token.text == "skb" else self._constant()
        else:
            raise self._unexpected("a field, a number or `(`")
        self._nesting -= 1
        return found

    def _number(self) -> _Number:
        if self._token.kind != "number":
            raise self._unexpected("a number")
        text, column = self._next()[1:]
        if not _NUMBER.fullmatch(text):
            raise self._error(
                column, f"{_quoted(text)} is not a number: they are decimal, 0x… or octal with a leading 0"
            )
        octal = text.startswith("0") and text.isdigit()
        value = int(text, 8 if octal else 0)
        if value >> 64:
            raise self._error(column, f"{_quoted(text)} has more than 64 bits")
        return _Number(value, _literal_type(value, decimal=not text.startswith("0")))

    def _constant(self) -> _Number:
        _, name, column = self._next()
        if name == "NULL":
            return _Number(0, _INT)
        values = self._btf.enumerator(name)
        if len(values) > 1:
            several = ", ".join(map(str, sorted(values)))
            raise self._error(
                column, f"{_quoted(name)} is several constants of this kernel ({several}): write the number"
            )
        for value in values:
            return _Number(value, _literal_type(value, decimal=False))
        if self._btf.layout(self._skb(column)).member(name):
            raise self._error(column, f"{_quoted(name)} is a member of the skb: write skb->{name}")
        raise self._error(
            column,
            f"{_quoted(name)} is neither `skb` nor a constant of an enum of this kernel"
            + _near(name, {"skb", *self._btf.enumerators()}),
        )

    # --- fields ---

    def field(self) -> _Field:
        start = self._token
        if start.text != "skb":
            raise self._unexpected("`skb->`")
        self._next()
        path = _Path("skb", Type(0, PTR, "", 8, False, self._skb(start.column), 0))
        while operator := self._take("->", ".", "["):
            self._check_operator(operator, path)
            if operator.text == "->" or path.type.kind == PTR:
                path.follow(self._btf)
            if operator.text == "[":
                self._index(path)
            else:
                self._member(path, operator)
            if path.at > _MAX_OFFSET:
                raise self._error(operator.column, "that is too far away")
        return self._readable(path, start.column)

    def _skb(self, column: int) -> int:
        found = self._btf.find("sk_buff", STRUCT)
        if found is None:
            raise self._error(column, "this kernel's BTF has no struct sk_buff")
        return found

    def _check_operator(self, operator: _Token, path: _Path) -> None:
        """What stands behind a field has to suit its type."""
        problem = ""
        if path.type.kind == PTR:
            target = self._btf.type(path.type.target)
            if operator.text == ".":
                problem = "a pointer: use `->`"
            elif operator.text == "[" and not target.size:
                problem = f"a pointer to {_described(target)}, whose size is not known"
            elif operator.text == "->" and target.kind not in (STRUCT, UNION):
                problem = f"a pointer to {_described(target)}, of which no members are known"
        elif path.type.kind in (STRUCT, UNION):
            if operator.text != ".":
                problem = f"{_described(path.type)}: use `.` and a member"
        elif path.type.kind == ARRAY:
            if operator.text != "[":
                problem = f"an array: say which element, as in {path.text}[0]"
        else:
            problem = "a number, nothing is in it"
        if problem:
            raise self._error(operator.column, f"`{path.text}` is {problem}")

    def _index(self, path: _Path) -> None:
        column = self._token.column
        index, _ = self._number()
        if not self._take("]"):
            raise self._unexpected("`]`")
        if path.type.kind == ARRAY:
            count = path.type.elements
            if 0 < count <= index:  # one without elements goes on as far as there is room
                raise self._error(column, f"`{path.text}` has {count} elements, the last is [{count - 1}]")
            path.type = self._btf.type(path.type.target)
        path.at += index * path.type.size
        path.text += f"[{index}]"

    def _member(self, path: _Path, operator: _Token) -> None:
        word = self._token
        if word.kind != "name":
            raise self._unexpected(f"a member of {_described(path.type)}")
        self._next()
        layout = self._btf.layout(path.type.id)
        member = layout.member(word.text)
        if not member:
            near = _near(word.text, {other.name for other in layout.members})
            raise self._error(word.column, f"{_described(path.type)} has no member {_quoted(word.text)}{near}")
        path.bits = (8 * path.at + member.bit_offset, member.bit_size) if member.bit_size else None
        path.at += member.offset
        path.text += operator.text + member.name
        path.type = self._btf.type(member.type_id)

    def _readable(self, path: _Path, column: int) -> _Field:
        kind = path.type
        if path.text == "skb":
            raise self._error(column, "`skb` alone is no field: name a member, as in skb->len")
        if kind.kind == ARRAY:
            raise self._error(column, f"`{path.text}` is an array: say which element, as in {path.text}[0]")
        if kind.kind in (STRUCT, UNION):
            raise self._error(column, f"`{path.text}` is {_described(kind)}: name a member of it")
        if kind.kind not in (INT, ENUM, ENUM64, PTR):
            raise self._error(column, f"`{path.text}` is {_described(kind)}, which cannot be compared")
        first, bits = path.bits or (8 * path.at, 8 * kind.size)
        for nbytes, size in _SIZES.items():
            # A bitfield is read with what is around it, aligned: that is in one page with it.
            offset = first // (8 * nbytes) * nbytes if path.bits else path.at
            shift = first - 8 * offset
            if shift + bits <= 8 * nbytes:
                return _Field(path.text, _Type(bits, kind.signed), tuple(path.pointers), offset, size, shift)
        raise self._error(column, f"`{path.text}` has {kind.size} bytes, and only 8 can be read")


class _Path:
    """A field as far as it has been read. `at` is from where the last pointer points; `bits`: the first, how many."""

    def __init__(self, text: str, kind: Type) -> None:
        self.text = text
        self.type = kind
        self.pointers: list[int] = []
        self.at = 0
        self.bits: tuple[int, int] | None = None

    def follow(self, btf: Btf) -> None:
        """The pointer that it is; the skb itself is at hand."""
        if self.text != "skb":
            self.pointers.append(self.at)
        self.at = 0
        self.type = btf.type(self.type.target)


def _literal_type(value: int, *, decimal: bool) -> _Type:
    """The first with room for it: C11, 6.4.4.1. In decimal it is signed; in hex, and from an enum, it need not be."""
    candidates = (_INT, _Type(64, signed=True)) if decimal else (_INT, _Type(32, False), _Type(64, True))
    return next((kind for kind in candidates if kind.wrap(value) == value), _Type(64, signed=False))


def _described(kind: Type) -> str:
    if kind.kind == PTR:
        return "a pointer"
    if kind.kind == ARRAY:
        return "an array"
    word = {STRUCT: "struct ", UNION: "union ", FWD: "struct "}.get(kind.kind, "")
    return f"{word}{kind.name}" if kind.name else f"an unnamed {word.strip()}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


def _near(name: str, names: set[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(names - {""}), n=3)
    return f"; near it: {', '.join(near)}" if near else ""


# --- tree → eBPF ---

# Kept by calls. r8 is free but for the moment of an operation.
_SKB, _VALUE, _OTHER = R6, R7, R8


def _fits(value: int) -> bool:
    """As an immediate, which is sign-extended."""
    return -0x80000000 <= value <= 0x7FFFFFFF


class _Code:
    def __init__(self, cast: Cast | None) -> None:
        self._cast = cast
        self._asm = Assembler()
        self._asm.alu64(Alu.MOV, _SKB, R1)

    def condition(self, node: _Node) -> bytes:
        asm, no = self._asm, Label()
        self._branch(node, False, no)
        asm.alu64(Alu.MOV, R0, 1)
        asm.exit()
        asm.place(no)
        asm.alu64(Alu.MOV, R0, 0)
        asm.exit()
        return asm.code()

    def value(self, field: _Field) -> bytes:
        self._evaluate(field)
        self._asm.alu64(Alu.MOV, R0, _VALUE)
        self._asm.exit()
        return self._asm.code()

    def _branch(self, node: _Node, wanted: bool, target: Label) -> None:
        """Jumps to `target` if the condition is as wanted, else goes on."""
        if isinstance(node, _Not):
            self._branch(node.operand, not wanted, target)
        elif isinstance(node, _Several):
            # The first that is not as `all` says decides.
            decided = target if wanted != node.all else Label()
            for operand in node.operands[:-1]:
                self._branch(operand, not node.all, decided)
            self._branch(node.operands[-1], wanted, target)
            if decided is not target:
                self._asm.place(decided)
        elif isinstance(node, _Comparison):
            self._compare(node, wanted, target)
        else:
            self._evaluate(node)
            self._asm.jump64(Jump.NE if wanted else Jump.EQ, _VALUE, 0, target)

    def _compare(self, node: _Comparison, wanted: bool, target: Label) -> None:
        operator, left, right = node
        if isinstance(left, _Number):
            operator, left, right = _MIRROR[operator], right, left
        if not wanted:
            operator = _INVERSE[operator]
        common = left.type.common(right.type)
        self._evaluate(left)
        other = self._operand(left.type, right, common, 0)
        self._asm.jump64((_SIGNED if common.signed else _UNSIGNED)[operator], _VALUE, other, target)

    def _evaluate(self, node: _Operand, depth: int = 0) -> None:
        """To r7, extended to 64 bits; `depth` words of the stack are in use."""
        if isinstance(node, _Number):
            self._asm.constant(_VALUE, node.value)
        elif isinstance(node, _Field):
            self._read(node)
        else:
            first, *rest = node.operands
            self._evaluate(first, depth)
            kind = first.type.promoted()
            for operand in rest:
                common = kind.common(operand.type)
                self._asm.alu64(Alu.AND, _VALUE, self._operand(kind, operand, common, depth))
                kind = common

    def _operand(self, left: _Type, right: _Operand, common: _Type, depth: int) -> int:
        """Where `right` is beside what is in r7: in r8, or the number itself. Both are converted to `common`."""
        asm = self._asm
        if isinstance(right, _Number):
            self._convert(_VALUE, left, common)
            value = common.wrap(right.value)
            if _fits(value):
                return value
            asm.constant(_OTHER, value)
        else:
            slot = -16 - 8 * depth
            asm.store(Size.DW, R10, slot, _VALUE)
            self._evaluate(right, depth + 1)
            asm.alu64(Alu.MOV, _OTHER, _VALUE)
            asm.load(Size.DW, _VALUE, R10, slot)
            self._convert(_VALUE, left, common)
            self._convert(_OTHER, right.type, common)
        return _OTHER

    def _convert(self, register: Reg, kind: _Type, common: _Type) -> None:
        """All values are extended to 64 bits already, so only a negative int that becomes unsigned changes."""
        if common == (32, False) and kind.promoted().signed:
            self._asm.alu32(Alu.MOV, register, register)

    def _read(self, field: _Field) -> None:
        asm, address = self._asm, address_register(self._cast)
        base = _SKB
        for offset, size in [*((pointer, Size.DW) for pointer in field.pointers), (field.offset, field.size)]:
            asm.alu64(Alu.MOV, address, base)
            asm.alu64(Alu.ADD, address, offset - lead(self._cast))
            load(asm, self._cast, size, _VALUE)
            base = _VALUE
        above = 64 - field.shift - field.type.bits
        below = 64 - field.type.bits
        if field.type.bits < 8 * field.size.nbytes or (field.type.signed and below):
            asm.alu64(Alu.LSH, _VALUE, above)
            asm.alu64(Alu.ARSH if field.type.signed else Alu.RSH, _VALUE, below)
