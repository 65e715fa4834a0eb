"""What a recording begins with: all that it takes to decode its events, and what was asked for, as JSON.

Whatever does not fit is Damaged: a file may be anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pwru.kernel.btf import ARRAY, INT, Member
from pwru.record import bounds
from pwru.record.about import About
from pwru.record.bounds import name, number
from pwru.record.chunks import Damaged
from pwru.record.columns import COLUMNS
from pwru.record.layout import Layout, Mismatch
from pwru.record.parts import PARTS, Field, Section
from pwru.record.schema import WORD, Schema, Slot

MAX_RECORD = 1 << 14  # bytes
_CARRIERS = ("skb", "xdp")
_SECTIONS = {section.name.lower(): section for section in Section}
_STRUCTS = ("task", "site")  # that every record has
_KNOWN = {*_STRUCTS, *(part.struct for part in PARTS.values())}
_ENUMS = {enum for part in PARTS.values() for enum in part.enums}
_CONSTANT = re.compile("[a-z][a-z0-9_]{0,63}", re.ASCII)
_SIZES = (1, 2, 4, 8)  # of integers
_MAX_MEMBERS, _MAX_CONSTANTS, _MAX_FIELDS, _MAX_COLUMNS = 64, 256, 16, 64
# The members of structs that are no number, with how many bytes they have at least and at most.
_BYTES = {
    **dict.fromkeys(("comm", "ifname", "name"), (1, 64)),
    **dict.fromkeys(("saddr", "daddr"), (16, 16)),
    **dict.fromkeys(("words", "key", "value"), (4, 256)),
    "frames": (8, 8 * bounds.MAX_FRAMES),
}
_SIGNED = ("ip_version", "size")
# What is kept of the command line.
_MAX_WORDS = 256
_MAX_FOLLOWED = 1 << 20  # skbs


class Heading(NamedTuple):
    """`columns`: the names and sizes of what a chunk of events has."""

    about: About
    schema: Schema
    columns: tuple[tuple[str, int], ...]


class _Structs:
    """The structs and constants that a recording describes."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        structs, enums = described["structs"], described["enums"]
        self._layouts = {name: _layout(name, *structs[name]) for name in _KNOWN & structs.keys()}
        self._enums = {enum: _constants(enums[enum]) for enum in _ENUMS & enums.keys()}
        self._max_values = number(described["constants"]["MAX_VALUES"])

    def layout(self, name: str) -> Layout:
        if name not in self._layouts:
            raise Mismatch
        return self._layouts[name]

    def names(self, enum: str) -> Mapping[int, str]:
        return self._enums[enum]

    def constant(self, name: str) -> int:
        assert name == "MAX_VALUES"
        return self._max_values


def write(about: About, schema: Schema) -> bytes:
    """Return the data of the chunk."""
    used = [PARTS[slot.part] for slot in schema.slots]
    structs = {name: schema.structs.layout(name) for name in (*_STRUCTS, *(part.struct for part in used)) if name}
    enums = {enum: schema.structs.names(enum) for part in used for enum in part.enums}
    command = [word[: bounds.MAX_NAME] for word in about.command[:_MAX_WORDS]]
    return bounds.dump(
        {
            "about": about._asdict() | {"command": command},
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
        }
    )


def read(data: bytes) -> Heading:
    """Return what the data of the chunk says. Raises Damaged."""
    with bounds.damaged("its header"):
        said = bounds.load(data)
        columns = tuple((str(name), number(size)) for name, size in said["columns"])
        sizes = dict(columns)
        if sum(sizes.values()) > MAX_RECORD or not len(sizes) == len(columns) <= _MAX_COLUMNS:
            raise Damaged("its header is damaged: the events are too large")
        structs = _Structs(said)
        lengths = {section: sizes.get(name, 0) for section, name in zip(Section, COLUMNS[2:], strict=True)}
        # What a later version has besides is stepped over.
        known = [part for part in said["parts"] if part[0] in PARTS and part[1] in _SECTIONS]
        slots = [_slot(structs, lengths, part) for part in known]
        fields = _fields(said["fields"], slots)
        schema = Schema(structs, slots, tcp_flags=bool(said["tcp_flags"]), fields=fields, lengths=lengths)
        schema.always = frozenset(map(str, said["always"]))
        if schema.sizes != tuple(sizes.get(name, 0) for name in COLUMNS) or lengths[Section.TIME] > WORD:
            raise Damaged("its header is damaged: the sizes do not fit")
        return Heading(_about(said["about"]), schema, columns)


def _slot(structs: _Structs, lengths: Mapping[Section, int], said: Sequence[Any]) -> Slot:
    name, section, at, size = said
    part, slot = PARTS[name], Slot(name, _SECTIONS[section], number(at), number(size))
    room = (structs.layout(part.struct).size if part.struct else 0) + slot.size
    if slot.section is not part.section or slot.at + room > lengths[slot.section]:
        raise Damaged("its header is damaged: a part is outside of the events")
    if name in ("location", "time") and room != part.size:
        raise Damaged("its header is damaged: a number has another size")
    if not part.struct and room > bounds.MAX_COPY:
        raise Damaged("its header is damaged: a part is too large")
    return slot


def _fields(said: Sequence[Any], slots: Sequence[Slot]) -> list[Field]:
    room = next((slot.size // WORD for slot in slots if slot.part == "values"), 0)
    fields = [Field(name(text), bool(signed), _CARRIERS[_CARRIERS.index(of)], bits) for text, signed, of, bits in said]
    if any(not 1 <= number(field.bits) <= 8 * WORD for field in fields):
        raise Damaged("its header is damaged: a field is too large")
    if len(fields) > _MAX_FIELDS or any(sum(field.of == of for field in fields) > room for of in _CARRIERS):
        raise Damaged("its header is damaged: there are too many fields")
    return fields


def _about(said: Mapping[str, Any]) -> About:
    return About(
        trace=name(said["trace"]),
        version=name(said["version"]),
        command=tuple(map(name, said["command"][:_MAX_WORDS])),
        kernel=_three(*map(name, said["kernel"])),
        backend=name(said["backend"]),
        follow_limit=min(number(said["follow_limit"]), _MAX_FOLLOWED),
        sees_ends=bool(said["sees_ends"]),
        ring_buffer_size=number(said["ring_buffer_size"]),
    )


def _three(release: str, version: str, machine: str) -> tuple[str, str, str]:
    return release, version, machine


def _constants(said: Mapping[str, str]) -> dict[int, str]:
    if len(said) > _MAX_CONSTANTS or not all(map(_CONSTANT.fullmatch, said.values())):
        raise ValueError
    return {int(value): name for value, name in said.items()}


def _layout(struct: str, size: int, members: list[list[Any]]) -> Layout:
    if not 0 < number(size) <= MAX_RECORD or not 0 < len(members) <= _MAX_MEMBERS:
        raise ValueError
    made = [_member(*said) for said in members]
    ends = [0, *(member.offset + member.size for member in made)]
    if ends[-1] > size or any(member.offset < end for member, end in zip(made, ends, strict=False)):
        raise ValueError
    return Layout(struct, size, made)


def _member(name: str, offset: int, size: int, *kind: Any) -> Member:
    signed, is_int, elements = kind
    each, rest = divmod(number(size), max(number(elements), 1))
    least, most = _BYTES.get(name, (0, 0))
    if least and not (least <= size <= most and size % least == 0):
        raise ValueError
    if rest or not name.isidentifier() or (bool(is_int) == bool(least or not size) and name != "padding"):
        raise ValueError
    if (is_int or elements > 1 < each) and (each not in _SIZES or (is_int and elements > 1)):
        raise ValueError
    if signed and name not in _SIGNED:
        raise ValueError
    return Member(name, number(offset), size, 8 * offset, 0, INT if is_int else ARRAY, 0, bool(signed), elements)
