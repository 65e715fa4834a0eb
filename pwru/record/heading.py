"""What a recording begins with: all that it takes to decode its events, and what was asked for, as JSON.

Whatever does not fit is Damaged: a file may be anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from pwru.errors import printable
from pwru.kernel.btf import ARRAY, INT, Member
from pwru.record.about import About
from pwru.record.chunks import Damaged
from pwru.record.columns import COLUMNS
from pwru.record.layout import Layout, Mismatch
from pwru.record.parts import PARTS, Field, Section
from pwru.record.schema import Schema, Slot

MAX_RECORD = 1 << 16  # bytes
_SECTIONS = {section.name.lower(): section for section in Section}
_STRUCTS = ("task", "site")  # that every record has
_SIZES = (1, 2, 4, 8)  # of integers
_MAX_MEMBERS = 256
_MEMBER = ("name", "offset", "size", "signed", "is_int", "elements")


class Heading(NamedTuple):
    """`columns`: the names and sizes of what a chunk of events has."""

    about: About
    schema: Schema
    columns: tuple[tuple[str, int], ...]


class _Structs:
    """The structs and constants that a recording describes."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._layouts = {name: _layout(name, *struct) for name, struct in described["structs"].items()}
        self._enums: dict[str, dict[int, str]] = {
            enum: {int(value): printable(name) for value, name in names.items()}
            for enum, names in described["enums"].items()
        }
        self._constants = {name: _integer(value) for name, value in described["constants"].items()}

    def layout(self, name: str) -> Layout:
        if name not in self._layouts:
            raise Mismatch
        return self._layouts[name]

    def names(self, enum: str) -> Mapping[int, str]:
        return self._enums[enum]

    def constant(self, name: str) -> int:
        return self._constants[name]


def write(about: About, schema: Schema) -> bytes:
    """Return the data of the chunk."""
    used = [PARTS[slot.part] for slot in schema.slots]
    structs = {name: schema.structs.layout(name) for name in (*_STRUCTS, *(part.struct for part in used)) if name}
    enums = {enum: schema.structs.names(enum) for part in used for enum in part.enums}
    return json.dumps(
        {
            "about": about._asdict(),
            "columns": [list(column) for column in zip(COLUMNS, schema.sizes, strict=True)],
            "parts": [[slot.part, slot.section.name.lower(), slot.at, slot.size] for slot in schema.slots],
            "always": sorted(schema.always),
            "structs": {
                name: [
                    layout.size,
                    [[m.name, m.offset, m.size, m.signed, m.is_int, m.elements] for m in layout.members],
                ]
                for name, layout in structs.items()
            },
            "enums": enums,
            "constants": {"MAX_VALUES": schema.structs.constant("MAX_VALUES")},
            "tcp_flags": schema.tcp_flags,
            "fields": [list(field) for field in schema.fields],
        },
        separators=(",", ":"),
    ).encode()


def read(data: bytes) -> Heading:
    """Return what the data of the chunk says. Raises Damaged."""
    with damaged("its header"):
        said = json.loads(data)
        columns = tuple((str(name), _integer(size)) for name, size in said["columns"])
        sizes = dict(columns)
        if sum(sizes.values()) > MAX_RECORD:
            raise Damaged("its header is damaged: the events are too large")
        structs = _Structs(said)
        lengths = {section: sizes.get(name, 0) for section, name in zip(Section, COLUMNS[2:], strict=True)}
        slots = []
        for name, section, at, size in said["parts"]:
            # What a later version has besides is stepped over.
            if name not in PARTS or section not in _SECTIONS:
                continue
            part, slot = PARTS[name], Slot(name, _SECTIONS[section], _integer(at), _integer(size))
            room = (structs.layout(part.struct).size if part.struct else 0) + slot.size
            if slot.section is not part.section or slot.at + room > lengths[slot.section]:
                raise Damaged("its header is damaged: a part is outside of the events")
            if name in ("location", "time") and room != PARTS[name].size:
                raise Damaged("its header is damaged: a number has another size")
            slots.append(slot)
        fields = [
            Field(printable(name), bool(signed), str(of), _bits(bits)) for name, signed, of, bits in said["fields"]
        ]
        schema = Schema(structs, slots, tcp_flags=bool(said["tcp_flags"]), fields=fields, lengths=lengths)
        schema.always = frozenset(map(str, said["always"]))
        if schema.sizes != tuple(sizes.get(name, 0) for name in COLUMNS):
            raise Damaged("its header is damaged: the sizes do not fit")
        return Heading(_about(said["about"]), schema, columns)


def _bits(value: Any) -> int:
    if not 1 <= _integer(value) <= 64:
        raise ValueError
    return int(value)


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn whatever damaged data leads to into Damaged."""
    try:
        yield
    except Damaged:
        raise
    except (Mismatch, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(f"{what} is damaged ({type(error).__name__})") from None


def _about(said: Mapping[str, Any]) -> About:
    return About(
        trace=printable(said["trace"]),
        version=printable(said["version"]),
        command=tuple(map(printable, said["command"])),
        kernel=_three(*map(printable, said["kernel"])),
        backend=printable(said["backend"]),
        follow_limit=_integer(said["follow_limit"]),
        sees_ends=bool(said["sees_ends"]),
        ring_buffer_size=_integer(said["ring_buffer_size"]),
    )


def _three(release: str, version: str, machine: str) -> tuple[str, str, str]:
    return release, version, machine


def _layout(name: str, size: int, members: list[list[Any]]) -> Layout:
    if not 0 < _integer(size) <= MAX_RECORD or not 0 < len(members) <= _MAX_MEMBERS or not name.isidentifier():
        raise ValueError
    made, end = [], 0
    for member, offset, length, signed, is_int, elements in members:
        at = _integer(offset)
        if at < end or not member.isidentifier():
            raise ValueError
        each, rest = divmod(_integer(length), max(_integer(elements), 1))
        if rest or ((is_int or elements > 1 < each) and each not in _SIZES):
            raise ValueError
        end = at + length
        kind = INT if is_int else ARRAY
        made.append(Member(member, at, length, 8 * at, 0, kind, 0, bool(signed), elements))
    if end > size:
        raise ValueError
    return Layout(name, size, made)


def _integer(value: Any) -> int:
    """Return a number that is none too large for any use; JSON has fractions, and numbers of any size."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value
