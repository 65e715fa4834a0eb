"""The types in BTF: layouts of structs, values of enums, sizes, and how a type is spelled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from .records import ARRAY, ENUM, ENUM64, FLOAT, FWD, INT, MAX_DEPTH, MODIFIERS, PTR, STRUCT, TYPEDEF, UNION, Records

_MAX_MEMBERS = 1 << 16  # of one struct with its anonymous members: more than any has
_INT_SIGNED = 1


class Member(NamedTuple):
    """A member of a struct or union, its type without typedefs and qualifiers.

    `offset` and `size` are in bytes; `bit_offset` counts from the start of the outermost struct. `bit_size` is 0 except
    for bitfields, whose `offset` is that of the byte with their first bit and whose `size` is that of the declared
    type. `kind` is INT, PTR, ENUM, … An array has the kind ARRAY and the number of its `elements`, else 1.
    """

    name: str
    offset: int
    size: int
    bit_offset: int
    bit_size: int
    kind: int
    type_id: int
    signed: bool
    elements: int

    @property
    def is_int(self) -> bool:
        """Return whether this is a number of `size` bytes: an integer, bool, enum or pointer, but no bitfield."""
        return self.kind in (INT, ENUM, ENUM64, PTR) and not self.bit_size


class Type(NamedTuple):
    """A type without the typedefs and qualifiers around it.

    `target` is what a pointer points to, or what an array consists of (another array, if it has more dimensions);
    `elements` is the number of an array in its first dimension. `void` has the id and kind 0. A struct that is only
    declared (kind FWD) is looked up by its name.
    """

    id: int
    kind: int
    name: str
    size: int
    signed: bool
    target: int
    elements: int


class Struct(NamedTuple):
    """A struct or union; members of anonymous structs and unions in it are its own members, as in C."""

    size: int
    members: tuple[Member, ...]

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


class Btf(Records):
    """BTF from bytes, see Records."""

    # --- enums ---

    def enum(self, name: str) -> dict[int, str] | None:
        """Return the values and names of an enum; the first name of a value that has several."""
        for type_id in self.named(name, ENUM, ENUM64):
            values: dict[int, str] = {}
            for start, value in self.enumerators_in(self.record(type_id)):
                values.setdefault(value, self.string(start))
            if values:
                return values
        return None

    def enums(self, suffix: str) -> Iterator[dict[int, str]]:
        """Yield the values and names of each own enum whose name ends so."""
        offsets = self.of_kinds(ENUM, ENUM64)
        for offset, start in zip(offsets, self.column(0, offsets), strict=True):
            if self.string(start).endswith(suffix):
                yield {value: self.string(name) for name, value in self.enumerators_in(self.record_at(offset))}

    def values(self, type_id: int) -> dict[int, str]:
        """Return the values and names of the enum with this id."""
        return {value: self.string(start) for start, value in self.enumerators_in(self.record(type_id))}

    def enumerator(self, name: str) -> set[int]:
        """Return the values of this name in all enums: several enums may have it, each with its own value."""
        values = self.base.enumerator(name) if self.base else set()
        starts = self.string_starts(name)
        for offset in self.of_kinds(ENUM, ENUM64) if starts else ():
            values |= {value for start, value in self.enumerators_in(self.record_at(offset)) if start in starts}
        return values

    def enumerators(self) -> set[str]:
        names = self.base.enumerators() if self.base else set()
        for offset in self.of_kinds(ENUM, ENUM64):
            names |= {self.string(start) for start, _ in self.enumerators_in(self.record_at(offset))}
        return names

    # --- structs ---

    def struct(self, name: str) -> Struct | None:
        type_id = self.find(name, STRUCT, UNION)
        return None if type_id is None else self.layout(type_id)

    def layout(self, type_id: int) -> Struct:
        members: list[Member] = []
        self._add_members(type_id, 0, members, MAX_DEPTH)
        return Struct(self.record(type_id)[2], tuple(members))

    def _add_members(self, struct_id: int, start: int, members: list[Member], depth: int) -> None:
        """Append the members of a struct that begins at bit `start`."""
        for name, declared, at, bit_size in self.parts(struct_id):
            type_id, bit_offset, bits = self.strip(declared), start + at, bit_size
            kind = self.kind(type_id)
            if not depth or len(members) > _MAX_MEMBERS:
                raise self.damaged("a struct contains itself")
            if kind in (STRUCT, UNION) and not name:
                self._add_members(type_id, bit_offset, members, depth - 1)
                continue
            size, elements = self._size(type_id)
            if kind == INT and not bits:
                # Old BTF has bitfields as integers of fewer bits: encoding, offset and bits in one word.
                encoding = self.record(type_id)[3]
                if encoding & 0xFF not in (0, 8 * size):
                    bits = encoding & 0xFF
                    bit_offset += encoding >> 16 & 0xFF
            place = bit_offset // 8, size * elements, bit_offset, bits
            members.append(Member(name, *place, kind, type_id, self._signed(type_id), elements))

    # --- any type ---

    def type(self, type_id: int) -> Type:
        """Return the type inside typedefs and qualifiers."""
        type_id = self.strip(type_id)
        if not type_id:
            return Type(0, 0, "void", 0, False, 0, 0)
        record = self.record(type_id)
        kind, name = self.kind(type_id), self.string(record[0])
        if kind == FWD:
            defined = self.find(name, UNION if record[1] >> 31 else STRUCT)
            if defined is not None:
                return self.type(defined)
        size, elements = self._size(type_id)
        target = record[2] if kind == PTR else record[3] if kind == ARRAY else 0
        own_elements = record[5] if kind == ARRAY else 0
        return Type(type_id, kind, name, size * elements, self._signed(type_id), target, own_elements)

    def spelled(self, type_id: int) -> str:
        """Return a type's name as btf_show_name() of the kernel: `struct sk_buff *`, `__u8[]`, `sk_buff_data_t`."""
        suffix, prefix = "", ""
        for _ in range(MAX_DEPTH):
            if not type_id:
                return f"void{suffix}"
            kind, record = self.kind(type_id), self.record(type_id)
            name = self.string(record[0])
            if kind == PTR:
                suffix = f"*{suffix}" if suffix[:1] == "*" else f" *{suffix}"
                type_id = record[2]
            elif kind == ARRAY:
                suffix = suffix if suffix.endswith("[]") else f"{suffix}[]"
                type_id = record[3]
            elif kind in MODIFIERS and kind != TYPEDEF:
                type_id = record[2]
            else:
                if kind in (STRUCT, UNION, ENUM, ENUM64, FWD):
                    prefix = "union" if kind == UNION else "enum" if kind in (ENUM, ENUM64) else "struct"
                return " ".join(filter(None, (prefix, name))) + suffix
        raise self.damaged("a type has no end")

    def _signed(self, type_id: int) -> bool:
        """Return whether a type without qualifiers around it is signed."""
        kind = self.kind(type_id)
        if kind == INT:
            return bool(self.record(type_id)[3] >> 24 & _INT_SIGNED)
        return kind in (ENUM, ENUM64) and bool(self.record(type_id)[1] >> 31)

    def _size(self, type_id: int) -> tuple[int, int]:
        """Return the bytes of one element, and the number of elements, of a type without qualifiers around it."""
        elements = 1
        for _ in range(MAX_DEPTH):
            kind = self.kind(type_id)
            if kind == ARRAY:
                record = self.record(type_id)
                elements *= record[5]
                type_id = self.strip(record[3])
            elif kind == PTR:
                return self._pointer_size, elements
            elif kind in (INT, STRUCT, UNION, ENUM, ENUM64, FLOAT):
                return self.record(type_id)[2], elements
            else:
                return 0, elements  # a type that is only declared
        raise self.damaged("an array contains itself")

    @cached_property
    def _pointer_size(self) -> int:
        """The size of `long`, which is how libbpf finds it; 8 without that type, as for BPF programs."""
        if self.base is not None:
            return self.base._pointer_size
        for name in ("long unsigned int", "unsigned long", "long int", "long"):
            type_id = self.find(name, INT)
            if type_id is not None and self.record(type_id)[2] in (4, 8):
                return self.record(type_id)[2]
        return 8
