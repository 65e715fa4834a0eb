"""The records and strings of BTF, found by kind, name or id.

A type is a record of 32-bit words (name, info, size or type, then what its kind adds), and types are numbered by their
order, so finding anything takes one walk over all records. vmlinux has more than 100 000 types and the user waits for
this: the walk only sorts the offsets of records by their info words (the columnar index), and everything after it works
on whole lists in C (itemgetter, compress, set membership). Only what is asked for becomes a Python object.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Self

from pwru.errors import PwruError

(
    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(1, 20)  # fmt: skip

MODIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
# How deep arrays, modifiers and anonymous structs may be nested, as in libbpf (MAX_RESOLVE_DEPTH); ends cycles.
MAX_DEPTH = 32

# Words of a record, and words of each of its entries.
_WORDS = {
    INT: (4, 0), PTR: (3, 0), ARRAY: (6, 0), STRUCT: (3, 3), UNION: (3, 3), ENUM: (3, 2), FWD: (3, 0), TYPEDEF: (3, 0),
    VOLATILE: (3, 0), CONST: (3, 0), RESTRICT: (3, 0), FUNC: (3, 0), FUNC_PROTO: (3, 2), VAR: (4, 0), DATASEC: (3, 3),
    FLOAT: (3, 0), DECL_TAG: (4, 0), TYPE_TAG: (3, 0), ENUM64: (3, 3),
}  # fmt: skip

_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
# What longer headers have after it: the offset and length of a table with two sizes for each kind, so that a reader can
# step over kinds that it does not know: commit 222edc843c15 ("btf: Add BTF kind layout encoding to UAPI"), in v7.1.
_LAYOUT = struct.Struct("=II")
_LAYOUT_ENTRY = 4  # a byte: size after struct btf_type; a byte: size of each entry; two bytes: flags


class BtfError(PwruError):
    """The data are not BTF, or damaged."""


# Kind has 7 bits and vlen 24 since commit f7a6b9eaff3e ("bpf: Extend BTF UAPI vlen, kinds to use unused bits").
# Before, they had 5 and 16, and the other bits were 0.
def kind_of(info: int) -> int:
    return info >> 24 & 0x7F


def vlen_of(info: int) -> int:
    return info & 0xFFFFFF


class Records:
    """Records and strings. Split BTF (of a module) continues the ids and the strings of its `base`.

    An offset is that of a record, in words. Raises BtfError for damaged data, the constructor as well as every method.
    """

    def __init__(self, data: bytes, base: Self | None = None, *, source: str = "") -> None:
        """`source` is where the data are from, for the messages."""
        self.base = base
        self._source = source and f"{source}: "
        types, strings, layout = self._sections(data)
        self._words = types.cast("I")
        self._strings = bytes(strings)
        # As in libbpf, a module without a table has its kernel's.
        self._layout: memoryview = base._layout if base and not layout else layout
        if self._strings[-1:] != b"\0" and (self._strings or not base):
            raise self.damaged("its strings do not end with a zero")
        if not base and self._strings[0]:
            raise self._error("this is a module's split BTF; the kernel's BTF is required")
        self._first_string: int = base._end_string if base else 0
        self._end_string: int = self._first_string + len(self._strings)
        # Answers for each name: the base is asked again by each module.
        self._ids: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        self._names: dict[str, set[int]] = {}

    def _sections(self, data: bytes) -> list[memoryview]:
        """Return the types, the strings and the layout table, which may be empty."""
        if len(data) < _HEADER.size:
            raise self._error("BTF is too short for its header")
        magic, version, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic == int.from_bytes(_MAGIC.to_bytes(2, "big"), "little"):
            raise self._error("BTF is of a machine with the other byte order")
        if magic != _MAGIC:
            raise self._error(f"not BTF: it begins with 0x{magic:04x} instead of 0x{_MAGIC:04x}")
        if version != 1:
            raise self._error(f"unsupported BTF version {version}")
        sections = [(type_off, type_len), (str_off, str_len), (0, 0)]
        if _HEADER.size + _LAYOUT.size <= header <= len(data):
            sections[2] = _LAYOUT.unpack_from(data, _HEADER.size)
        end = header + max(map(sum, sections))
        if header < _HEADER.size or end > len(data) or type_len % 4 or sections[2][1] % _LAYOUT_ENTRY:
            raise self._error("BTF is cut off or damaged: its sections do not fit into it")
        return [memoryview(data)[header + start : header + start + size] for start, size in sections]

    @property
    def count(self) -> int:
        """One more than the highest id."""
        return self._first_id + len(self._offsets)

    def validate(self) -> None:
        _ = self._index

    # --- one record ---

    def record(self, type_id: int) -> memoryview[int]:
        """Return the words from the record of this type on."""
        if type_id < self._first_id:
            if self.base is None:
                raise self.damaged(f"type {type_id} is not a record")
            return self.base.record(type_id)
        try:
            return self._words[self._offsets[type_id - self._first_id] :]
        except IndexError:
            raise self.damaged(f"there is no type {type_id}") from None

    def record_at(self, offset: int) -> memoryview[int]:
        """Return the words from this offset on."""
        return self._words[offset:]

    def id_at(self, offset: int) -> int:
        """Return the id of the record at this offset."""
        return self._first_id + bisect_left(self._offsets, offset)

    def kind(self, type_id: int) -> int:
        """Return the kind of a type; 0 for void."""
        return kind_of(self.record(type_id)[1]) if type_id else 0

    def strip(self, type_id: int) -> int:
        """Return the type inside typedefs and qualifiers; 0 is void."""
        for _ in range(MAX_DEPTH):
            if self.kind(type_id) not in MODIFIERS:
                return type_id
            type_id = self.record(type_id)[2]
        raise self.damaged("a chain of typedefs has no end")

    def string(self, start: int) -> str:
        """Return the string that starts there."""
        at = start - self._first_string
        if at < 0 and self.base is not None:
            return self.base.string(start)
        end = self._strings.find(b"\0", at)
        if end < 0:
            raise self.damaged("a name is beyond its strings")
        return self._strings[at:end].decode("utf-8", "backslashreplace")

    def parts(self, type_id: int) -> list[tuple[str, int, int, int]]:
        """Return the members of a struct or union as declared: name, type, first bit, and the bits of a bitfield."""
        record = self.record(type_id)
        entries = [record[entry : entry + 3] for entry in range(3, 3 + 3 * vlen_of(record[1]), 3)]
        if record[1] >> 31:
            return [(self.string(name), member, at & 0xFFFFFF, at >> 24) for name, member, at in entries]
        return [(self.string(name), member, at, 0) for name, member, at in entries]

    @staticmethod
    def enumerators_in(record: memoryview[int]) -> Iterator[tuple[int, int]]:
        """Yield, for each value of an enum, where its name starts in the strings, and the value."""
        info = record[1]
        wide, signed = kind_of(info) == ENUM64, info >> 31
        width = 3 if wide else 2
        for entry in range(3, 3 + width * vlen_of(info), width):
            value = record[entry + 1] | (record[entry + 2] << 32 if wide else 0)
            if signed and value >> (32 * width - 33):
                value -= 1 << (32 * width - 32)
            yield record[entry], value

    # --- many records ---

    def of_kinds(self, *kinds: int) -> list[int]:
        """Return the offsets of the own records of these kinds."""
        return list(chain(*(offsets for info, offsets in self._by_info.items() if kind_of(info) in kinds)))

    def by_vlen(self, kind: int) -> Iterator[tuple[int, list[int]]]:
        """Yield the offsets of the own records of this kind in groups with the same number of entries."""
        return ((vlen_of(info), offsets) for info, offsets in self._by_info.items() if kind_of(info) == kind)

    def column(self, word: int, offsets: list[int]) -> tuple[int, ...]:
        """Return this word of each of the records."""
        if len(offsets) < 2:
            return tuple(self._words[offset + word] for offset in offsets)
        column: tuple[int, ...] = itemgetter(*offsets)(self._words[word:])
        return column

    def find(self, name: str, *kinds: int) -> int | None:
        """Return the lowest id of a type with this name and one of these kinds."""
        return min(self.named(name, *kinds), default=None)

    def named(self, name: str, *kinds: int) -> list[int]:
        """Return the ids of all types with this name and one of these kinds, the base's first."""
        key = name, kinds
        if key not in self._ids:
            ids = list(self.base.named(name, *kinds)) if self.base else []
            starts = self.string_starts(name)
            if starts:
                offsets = self.of_kinds(*kinds)
                ids += map(self.id_at, compress(offsets, map(starts.__contains__, self.column(0, offsets))))
            self._ids[key] = ids
        return self._ids[key]

    def string_starts(self, name: str) -> set[int]:
        """Return where this string starts. Not inside other strings: nobody writes BTF that way."""
        if name not in self._names:
            starts = set(self.base.string_starts(name)) if self.base else set()
            wanted = name.encode() + b"\0"
            if self._strings.startswith(wanted):
                starts.add(self._first_string)
            at = self._strings.find(b"\0" + wanted)
            while at >= 0:
                starts.add(self._first_string + at + 1)
                at = self._strings.find(b"\0" + wanted, at + 1)
            self._names[name] = starts
        return self._names[name]

    def prefixed(self, prefix: bytes, kind: int) -> list[int]:
        """Return the offsets of the own records of this kind whose name is an own string with this prefix."""
        offsets = self.of_kinds(kind)
        first, end = self._first_string, len(self._strings)
        starts = [start - first if start >= first else end for start in self.column(0, offsets)]
        return list(compress(offsets, map(self._strings.startswith, repeat(prefix), starts)))

    # --- the index ---

    @cached_property
    def _first_id(self) -> int:
        return self.base.count if self.base else 1

    @cached_property
    def _offsets(self) -> list[int]:
        """The offsets of the records in the order of their ids."""
        return self._index[0]

    @cached_property
    def _by_info(self) -> dict[int, list[int]]:
        """The offsets of the records by their info words."""
        return self._index[1]

    @cached_property
    def _index(self) -> tuple[list[int], dict[int, list[int]]]:
        offsets: list[int] = []
        by_info: dict[int, list[int]] = {}
        strides: dict[int, tuple[int, Callable[[int], None]]] = {}
        infos = self._words[1:]
        add = offsets.append
        offset = 0
        try:
            while True:
                try:
                    while True:  # most of the time of a scan is spent in these four lines
                        stride, add_by_info = strides[infos[offset]]
                        add(offset)
                        add_by_info(offset)
                        offset += stride
                except KeyError:
                    info = infos[offset]
                    by_info[info] = []
                    strides[info] = self._stride(info), by_info[info].append
        except IndexError:
            if offset != len(self._words):
                raise self.damaged("its last type is cut off") from None
        return offsets, by_info

    def _stride(self, info: int) -> int:
        """Return how many words a record with this info word takes."""
        kind = kind_of(info)
        if kind in _WORDS:
            words, words_each = _WORDS[kind]
            return words + words_each * vlen_of(info)
        if not 0 < kind < len(self._layout) // _LAYOUT_ENTRY:
            raise self._error(f"BTF has a type of unknown kind {kind}, or is damaged")
        size, size_each = self._layout[_LAYOUT_ENTRY * kind :][:2]
        if size % 4 or size_each % 4:
            raise self.damaged(f"types of kind {kind} do not consist of whole words")
        return 3 + (size + size_each * vlen_of(info)) // 4

    # --- errors ---

    def damaged(self, damage: str) -> BtfError:
        """Return the error that says what is wrong with the data."""
        return self._error(f"BTF is damaged: {damage}")

    def _error(self, text: str) -> BtfError:
        return BtfError(self._source + text)
