"""The structs and constants of bpf/pwru.h, as the BTF of a BPF object has them: read and packed by name."""

import struct
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from pwru.errors import PwruError
from pwru.kernel.btf import ARRAY, Btf, Member

_INTEGER = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Mismatch(PwruError):
    """The BPF object is of another version than this code."""

    def __init__(self) -> None:
        super().__init__("the BPF object does not belong to this version of pwru; rebuild it: make build")


class Layout:
    """One struct: its size in bytes, and its members by name."""

    def __init__(self, name: str, size: int, members: Sequence[Member]) -> None:
        self.size = size
        self.members = tuple(members)
        self._sizes = {member.name: member.size for member in members}
        self._tuple: Any = namedtuple(name, [member.name for member in members])  # type: ignore[misc]
        parts, end = ["<"], 0
        self._arrays: dict[str, struct.Struct] = {}
        for member in members:
            each = member.size // max(member.elements, 1)
            if member.kind == ARRAY and each > 1:
                self._arrays[member.name] = struct.Struct(f"<{member.elements}{_INTEGER[each]}")
            parts.append(f"{member.offset - end}x" if member.offset > end else "")
            code = _INTEGER[member.size] if member.is_int else f"{member.size}s"
            parts.append(code.lower() if member.is_int and member.signed else code)
            end = member.offset + member.size
        parts.append(f"{size - end}x" if size > end else "")
        self._struct = struct.Struct("".join(parts))

    def size_of(self, member: str) -> int:
        return self._sizes[member]

    def getter(self, *names: str, later: Sequence[str] = ()) -> Callable[[bytes], tuple[Any, ...]]:
        """Return a function from bytes to these members, in this order: unpack(), but faster, and arrays as bytes.

        `names` are two at least. `later`: numbers that follow, and are 0 for the struct of an earlier version, which
        lacks them.
        """
        unpack, fields = self._struct.unpack_from, self._tuple._fields
        if not all(name in fields for name in later):
            pick_first, zeros = itemgetter(*map(fields.index, names)), (0,) * len(later)
            return lambda raw: pick_first(unpack(raw)) + zeros
        pick = itemgetter(*map(fields.index, (*names, *later)))
        return lambda raw: pick(unpack(raw))

    def unpack(self, raw: bytes, at: int = 0) -> Any:
        """Return the members as a named tuple: integers as they are, arrays of them as tuples, all else as bytes."""
        values = self._tuple(*self._struct.unpack_from(raw, at))
        if not self._arrays:
            return values
        return values._replace(**{name: form.unpack(getattr(values, name)) for name, form in self._arrays.items()})

    def pack(self, values: Mapping[str, int | bytes | Sequence[int]]) -> bytes:
        """Return the bytes of the struct. A member that is not among `values` is 0; an unknown name is a mismatch."""
        if not values.keys() <= set(self._tuple._fields):
            raise Mismatch
        packed: dict[str, int | bytes] = {}
        for name, value in values.items():
            if isinstance(value, int | bytes):
                packed[name] = value
            else:
                packed[name] = self._arrays[name].pack(*value)
        blank = self._struct.unpack(bytes(self.size))
        return self._struct.pack(*self._tuple._make(blank)._replace(**packed))


class Wire:
    """What the programs of one object and user space share. Every method raises Mismatch for a missing name."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._layouts: dict[str, Layout] = {}

    def enum(self, name: str) -> dict[str, int]:
        """Return the constants of an enum, by name and in their order."""
        values = self._btf.enum(name)
        if not values:
            raise Mismatch
        return {name: value for value, name in values.items()}

    def names(self, enum: str) -> dict[int, str]:
        """Return what its constants are called, by value: RELATION_CLONE, of enum relation, is "clone"."""
        return {value: name.removeprefix(f"{enum.upper()}_").lower() for name, value in self.enum(enum).items()}

    def layout(self, name: str) -> Layout:
        """Return the layout of a struct."""
        if name not in self._layouts:
            layout = self._btf.struct(name)
            if layout is None:
                raise Mismatch
            self._layouts[name] = Layout(name, layout.size, layout.members)
        return self._layouts[name]

    def constant(self, name: str) -> int:
        """Return the value of an enumerator, whatever enum it is of."""
        values = self._btf.enumerator(name)
        if len(values) != 1:
            raise Mismatch
        return values.pop()
