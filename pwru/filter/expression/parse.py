"""A parser for expressions. It finds everything that can be wrong, so that a message names the column.

`&&`, `||` and `&` take any number of operands instead of two, so only parentheses and `!` nest.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .tree import (
    INT,
    Comparison,
    FieldLoad,
    Fields,
    Logical,
    Mask,
    Mistake,
    Node,
    Not,
    Number,
    Operand,
    literal_type,
    quote,
)  # fmt: skip

_T = TypeVar("_T")

_MAX_LENGTH = 4096  # characters: makes far fewer instructions than a jump can pass
_MAX_NESTING = 16  # each level may need 8 bytes of stack
_COMPARISONS = ("==", "!=", "<", ">=", ">", "<=")

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>[0-9]\w*)|(?P<op>->|==|!=|<=|>=|&&|\|\||\S)|(?P<end>\Z))", re.ASCII
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", re.ASCII)


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


def parse_condition(text: str, fields: Fields) -> Node:
    """Return the tree of a condition on these fields. Raises Mistake."""
    parser = _Parser(text, fields)
    return parser.whole(parser.expression)


def parse_field(text: str, fields: Fields) -> FieldLoad:
    """Return the load of a single field. Raises Mistake."""
    parser = _Parser(text, fields)
    return parser.whole(parser.field)


class _Parser:
    def __init__(self, text: str, fields: Fields) -> None:
        self._fields = fields
        self._root = fields.root
        if not text.strip():
            raise Mistake(f"it is empty; an example: {self._root.example}")
        if len(text) > _MAX_LENGTH:
            raise Mistake(f"it has {len(text)} characters, {_MAX_LENGTH} are possible")
        self._tokens = [
            _Token(str(match.lastgroup), match[match.lastgroup or 0], match.start(match.lastgroup or 0) + 1)
            for match in _TOKEN.finditer(text)
        ]
        self._position = 0
        self._nesting = 0

    def whole(self, rule: Callable[[], _T]) -> _T:
        """Apply a rule of the grammar to the whole text."""
        node = rule()
        if self._token.kind != "end":
            raise self._unexpected("an operator or end of input")
        return node

    # --- tokens ---

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        self._position += 1
        return self._tokens[self._position - 1]

    def _take(self, *operators: str) -> _Token | None:
        """Consume and return the next token if it is one of these operators."""
        return self._next() if self._token.kind == "op" and self._token.text in operators else None

    def _unexpected(self, wanted: str) -> Mistake:
        _, text, column = self._token
        if text == "=":
            return Mistake("to compare, write `==`", column)
        return Mistake(f"expected {wanted}, found {quote(text) if text else 'end of input'}", column)

    # --- grammar ---

    def expression(self) -> Node:
        start = self._token
        node = self.condition()
        _check_varies(node, start)
        return node

    def condition(self) -> Node:
        return self._logical("||", lambda: self._logical("&&", self._comparison))

    def _logical(self, operator: str, rule: Callable[[], Node]) -> Node:
        start = self._token
        operands = [rule()]
        while self._take(operator):
            _check_varies(operands[-1], start)
            start = self._token
            operands.append(rule())
        if len(operands) == 1:  # in parentheses it may be a number
            return operands[0]
        _check_varies(operands[-1], start)
        return Logical(operator == "&&", operands)

    def _comparison(self) -> Node:
        first = start = self._token
        left = self._mask()
        operator = self._take(*_COMPARISONS)
        if not operator:
            return left
        left = _operand(left, start, operator)
        start = self._token
        right = _operand(self._mask(), start, operator)
        if second := self._take(*_COMPARISONS):
            raise Mistake(
                f"comparisons cannot be chained; join two of them with && before `{second.text}`", second.column
            )
        for field, number in ((left, right), (right, left)):
            if isinstance(field, FieldLoad) and isinstance(number, Number):
                _check_range(field, number, start)
        node = Comparison(operator.text, left, right)
        _check_varies(node, first)
        return node

    def _mask(self) -> Node:
        start = self._token
        node = self._unary()
        while operator := self._take("&"):
            left = _operand(node, start, operator)
            start = self._token
            right = _operand(self._unary(), start, operator)
            common = left.type.common(right.type)
            node = Mask([*left.operands, right] if isinstance(left, Mask) else [left, right], common)
        return node

    def _unary(self) -> Node:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise Mistake(f"it is nested more than {_MAX_NESTING} deep", self._token.column)
        node: Node
        if self._take("!"):
            start = self._token
            node = Not(self._unary())
            _check_varies(node.operand, start)
        elif self._take("("):
            node = self.condition()
            if not self._take(")"):
                raise self._unexpected("`)`")
        elif self._take("-"):
            value, ctype = self._number()
            node = Number(ctype.wrap(-value), ctype)
        elif self._take("~"):
            value, ctype = self._number()
            node = Number(ctype.wrap(~value), ctype)
        elif self._token.kind == "number":
            node = self._number()
        elif self._token.kind == "name":
            node = self.field() if self._token.text == self._root.name else self._constant()
        else:
            raise self._unexpected("a field, a number or `(`")
        self._nesting -= 1
        return node

    def _number(self) -> Number:
        if self._token.kind != "number":
            raise self._unexpected("a number")
        text, column = self._next()[1:]
        if not _NUMBER.fullmatch(text):
            raise Mistake(f"{quote(text)} is not a number: they are decimal, 0x… or octal with a leading 0", column)
        octal = text.startswith("0") and text.isdigit()
        value = int(text, 8 if octal else 0)
        if value >> 64:
            raise Mistake(f"{quote(text)} has more than 64 bits", column)
        return Number(value, literal_type(value, decimal=not text.startswith("0")))

    def _constant(self) -> Number:
        _, name, column = self._next()
        if name == "NULL":
            return Number(0, INT)
        value = self._fields.constant(name, column)
        return Number(value, literal_type(value, decimal=False))

    def field(self) -> FieldLoad:
        start = self._token
        if start.text != self._root.name:
            raise self._unexpected(f"`{self._root.name}->`")
        self._next()
        path = self._fields.path(start.column)
        while operator := self._take("->", ".", "["):
            path.apply(operator.text, operator.column)
            word = self._token
            if operator.text == "[":
                number, _ = self._number()
                if not self._take("]"):
                    raise self._unexpected("`]`")
                path.index(number, word.column)
            elif word.kind == "name":
                path.member(operator.text, self._next().text, word.column)
            else:
                raise self._unexpected(f"a member of {path.describe_type()}")
            path.check_offset(operator.column)
        return path.load(start.column)


def _operand(node: Node, start: _Token, operator: _Token) -> Operand:
    """Return the node if it is a number, not true or false."""
    if isinstance(node, Number | FieldLoad | Mask):
        return node
    raise Mistake(
        f"this is true or false, but `{operator.text}` takes numbers; parentheses say what belongs together",
        start.column,
    )


def _check_varies(node: Node, start: _Token) -> None:
    """Refuse what has the same result for every packet; what a Logical or a Not consists of has been checked."""
    operands = (node.left, node.right) if isinstance(node, Comparison) else (node,)
    if not any(map(_varies, operands)):
        raise Mistake("this is the same for every packet: it has no field", start.column)


def _varies(node: Node) -> bool:
    if isinstance(node, Mask):
        return any(map(_varies, node.operands))
    return not isinstance(node, Number)


def _check_range(field: FieldLoad, number: Number, start: _Token) -> None:
    """Refuse a number that the field cannot have: the comparison would always have the same result."""
    common = field.type.common(number.type)
    value = common.wrap(number.value)
    if common.wrap(field.type.wrap(value)) != value:
        bits, signed = field.type
        sign = "signed" if signed else "unsigned"
        raise Mistake(f"`{field.path}` ({bits} bits, {sign}) cannot be {number.value}", start.column)
