"""The fields of this kernel: the way from the root to one, step by step through BTF, and the constants of enums."""

from __future__ import annotations

from pwru.ebpf import Size
from pwru.errors import near
from pwru.kernel.btf import ARRAY, ENUM, ENUM64, FWD, INT, PTR, STRUCT, UNION, Btf, Type

from .tree import CType, FieldLoad, Mistake, Root, quote

_MAX_OFFSET = 0x7FFFFFFF  # of an immediate
_SIZES = {size.nbytes: size for size in sorted(Size, key=lambda size: size.nbytes)}


class KernelFields:
    """See tree.Fields."""

    def __init__(self, btf: Btf, root: Root) -> None:
        self._btf = btf
        self.root = root

    def path(self, column: int) -> KernelPath:
        return KernelPath(self._btf, self.root, column)

    def constant(self, name: str, column: int) -> int:
        values = self._btf.enumerator(name)
        if len(values) > 1:
            several = ", ".join(map(str, sorted(values)))
            raise Mistake(f"{quote(name)} is several constants of this kernel ({several}): write the number", column)
        for value in values:
            return value
        root = self.root.name
        if self._btf.layout(root_id(self._btf, self.root, column)).member(name):
            raise Mistake(f"{quote(name)} is a member of the {root}: write {root}->{name}", column)
        message = f"{quote(name)} is neither `{root}` nor a constant of an enum of this kernel"
        raise Mistake(message + question(name, {root, *self._btf.enumerators()}), column)


class KernelPath:
    """See tree.Path."""

    def __init__(self, btf: Btf, root: Root, column: int) -> None:
        self._btf = btf
        self._root = root
        self._text = root.name
        self._type = Type(0, PTR, "", 8, False, root_id(btf, root, column), 0)
        self._pointers: list[int] = []
        self._offset = 0  # from where the last pointer points
        self._bits: tuple[int, int] | None = None  # of a bitfield: the first bit, and how many

    def __str__(self) -> str:
        return self._text

    def apply(self, operator: str, column: int) -> None:
        """Check that the type allows the operator, and follow the pointer if it is one."""
        if problem := self._problem(operator):
            raise Mistake(f"`{self}` is {problem}", column)
        if operator == "->" or self._type.kind == PTR:
            if self._text != self._root.name:  # the root itself is at hand
                self._pointers.append(self._offset)
            self._offset = 0
            self._type = self._btf.type(self._type.target)

    def _problem(self, operator: str) -> str:
        """Return why the type does not allow the operator, or ""."""
        if self._type.kind == PTR:
            target = self._btf.type(self._type.target)
            if operator == ".":
                return "a pointer: use `->`"
            if operator == "[" and not target.size:
                return f"a pointer to {_describe(target)}, whose size is not known"
            if operator == "->" and target.kind not in (STRUCT, UNION):
                return f"a pointer to {_describe(target)}, of which no members are known"
            return ""
        if self._type.kind in (STRUCT, UNION):
            return "" if operator == "." else f"{_describe(self._type)}: use `.` and a member"
        if self._type.kind == ARRAY:
            return "" if operator == "[" else f"an array: say which element, as in {self}[0]"
        return "a number, nothing is in it"

    def index(self, number: int, column: int) -> None:
        if self._type.kind == ARRAY:
            count = self._type.elements
            if 0 < count <= number:  # a flexible array ends where its memory does
                raise Mistake(f"`{self}` has {count} elements, the last is [{count - 1}]", column)
            self._type = self._btf.type(self._type.target)
        self._offset += number * self._type.size
        self._text += f"[{number}]"

    def member(self, operator: str, name: str, column: int) -> None:
        layout = self._btf.layout(self._type.id)
        member = layout.member(name)
        if not member:
            message = f"{_describe(self._type)} has no member {quote(name)}"
            raise Mistake(message + question(name, {other.name for other in layout.members}), column)
        self._bits = (8 * self._offset + member.bit_offset, member.bit_size) if member.bit_size else None
        self._offset += member.offset
        self._text += operator + member.name
        self._type = self._btf.type(member.type_id)

    def check_offset(self, column: int) -> None:
        if self._offset > _MAX_OFFSET:
            raise Mistake("that is too far away", column)

    def describe_type(self) -> str:
        return _describe(self._type)

    def load(self, column: int) -> FieldLoad:
        """Return the load of the field, which must be a number or a pointer."""
        ctype = self._type
        if self._text == self._root.name:
            raise Mistake(f"`{self}` alone is no field: name a member, as in {self._root.field}", column)
        if ctype.kind == ARRAY:
            raise Mistake(f"`{self}` is an array: say which element, as in {self}[0]", column)
        if ctype.kind in (STRUCT, UNION):
            raise Mistake(f"`{self}` is {_describe(ctype)}: name a member of it", column)
        if ctype.kind not in (INT, ENUM, ENUM64, PTR):
            raise Mistake(f"`{self}` is {_describe(ctype)}, which cannot be compared", column)
        first, bits = self._bits or (8 * self._offset, 8 * ctype.size)
        for nbytes, size in _SIZES.items():
            # A bitfield is read with the bytes around it, aligned, so that the load stays in the bitfield's page.
            offset = first // (8 * nbytes) * nbytes if self._bits else self._offset
            shift = first - 8 * offset
            if shift + bits <= 8 * nbytes:
                return FieldLoad(self._text, CType(bits, ctype.signed), tuple(self._pointers), offset, size, shift)
        raise Mistake(f"`{self}` has {ctype.size} bytes, and only 8 can be read", column)


def root_id(btf: Btf, root: Root, column: int) -> int:
    type_id = btf.find(root.struct, STRUCT)
    if type_id is None:
        raise Mistake(f"this kernel's BTF has no struct {root.struct}", column)
    return type_id


def question(word: str, words: set[str]) -> str:
    """Return "; did you mean …?" for the end of a message, or ""."""
    text = near(word, sorted(words - {""}))
    return f"; {text}" if text else ""


def _describe(ctype: Type) -> str:
    if ctype.kind == PTR:
        return "a pointer"
    if ctype.kind == ARRAY:
        return "an array"
    keyword = {STRUCT: "struct ", UNION: "union ", FWD: "struct "}.get(ctype.kind, "")
    return f"{keyword}{ctype.name}" if ctype.name else f"an unnamed {keyword.strip()}"
