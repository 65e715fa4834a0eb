"""Conditions on the fields that a recording has. They mean what they mean in eBPF: see code.py."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping

from pwru.ebpf import Size
from pwru.errors import PwruError

from .parse import parse_condition
from .tree import SKB, Comparison, CType, FieldLoad, Logical, Mistake, Node, Not, Number, Operand, Root, quote

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition:
    """`fields`: the names of those that it looks at."""

    def __init__(self, text: str, types: Mapping[str, CType], root: Root = SKB) -> None:
        """`types`: of the fields that there are. Raises PwruError that names the column of a mistake."""
        try:
            self._tree = parse_condition(text, _Fields(types, root))
        except Mistake as mistake:
            raise PwruError(f"`{root.name}_expr`: {mistake}") from None
        self.fields = frozenset(_fields(self._tree))

    def holds(self, values: Mapping[str, int]) -> bool:
        """Return whether it does for these values of the fields."""
        return _truth(self._tree, values)


class _Fields:
    """See tree.Fields."""

    def __init__(self, types: Mapping[str, CType], root: Root) -> None:
        self._types = types
        self.root = root

    def path(self, column: int) -> _Path:
        return _Path(self._types, self.root)

    def constant(self, name: str, column: int) -> int:
        raise Mistake(f"{quote(name)} is no field, and a recording has no constants: write the number", column)


class _Path:
    """See tree.Path. Only the whole is known or not."""

    def __init__(self, types: Mapping[str, CType], root: Root) -> None:
        self._types = types
        self._root = root
        self._text = root.name

    def apply(self, operator: str, column: int) -> None:
        pass

    def index(self, number: int, column: int) -> None:
        self._text += f"[{number}]"

    def member(self, operator: str, name: str, column: int) -> None:
        self._text += operator + name

    def check_offset(self, column: int) -> None:
        pass

    def describe_type(self) -> str:
        return f"`{self._text}`"

    def load(self, column: int) -> FieldLoad:
        if self._text == self._root.name:
            raise Mistake(f"`{self._text}` alone is no field: name a member, as in {self._root.field}", column)
        ctype = self._types.get(self._text)
        if ctype is None:
            raise Mistake(
                f"{quote(self._text)} was not recorded: `{self._root.name}_metadata` must name it when the recording "
                f"is made; this one has {', '.join(sorted(self._types)) or 'no fields'}",
                column,
            )
        return FieldLoad(self._text, ctype, (), 0, Size.DW, 0)


def _fields(node: Node) -> Iterator[str]:
    if isinstance(node, FieldLoad):
        yield node.path
    elif isinstance(node, Not):
        yield from _fields(node.operand)
    elif isinstance(node, Comparison):
        yield from _fields(node.left)
        yield from _fields(node.right)
    elif not isinstance(node, Number):
        for operand in node.operands:
            yield from _fields(operand)


def _truth(node: Node, values: Mapping[str, int]) -> bool:
    if isinstance(node, Not):
        return not _truth(node.operand, values)
    if isinstance(node, Logical):
        return (all if node.all else any)(_truth(operand, values) for operand in node.operands)
    if isinstance(node, Comparison):
        common = node.left.type.common(node.right.type)
        left, right = (common.wrap(_value(operand, values)) for operand in (node.left, node.right))
        return _COMPARE[node.operator](left, right)
    return _value(node, values) != 0


def _value(node: Operand, values: Mapping[str, int]) -> int:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, FieldLoad):
        return node.type.wrap(values[node.path])
    first, *others = node.operands
    value, ctype = _value(first, values), first.type
    for operand in others:
        ctype = ctype.common(operand.type)
        value = ctype.wrap(value) & ctype.wrap(_value(operand, values))
    return value
