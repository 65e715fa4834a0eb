"""How the records of one run are decoded, wherever they are from.

All records of a run have the same parts and one size, and are cut up in bulk. What stays the same from event to event
is one run of bytes, so that whoever formats events can do so once per distinct run.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

from pwru.record.event import Event, Hit, Task
from pwru.record.layout import Layout
from pwru.record.names import Names
from pwru.record.parts import PARTS, Field, FlowTuple, Follow, Payload, Section, text_of


class Record(NamedTuple):
    """One event, cut up. `time` is in ns since boot; what the run does not ask for is empty, and `time` then b""."""

    skb: int
    task: bytes
    hit: bytes
    packet: bytes
    follow: bytes
    time: int | bytes
    details: bytes


Values = dict[str, Any]
WORD = 8  # parts begin at multiples of so many bytes


class Slot(NamedTuple):
    """Where a part is: `at` bytes after its section begins, `size` bytes of what its struct, if any, does not hold."""

    part: str
    section: Section
    at: int
    size: int


class Structs(Protocol):
    """The structs and constants of records by name: those of an object, or those that a recording has."""

    def layout(self, name: str) -> Layout: ...

    def names(self, enum: str) -> Mapping[int, str]: ...

    def constant(self, name: str) -> int: ...


class Schema:
    """What records have: how each section is decoded.

    `parts` are names. `tcp_flags`: whether tuples have the flags of TCP. `fields` are what the part `values` has.
    """

    def __init__(
        self,
        structs: Structs,
        slots: Sequence[Slot],
        *,
        tcp_flags: bool = False,
        fields: Sequence[Field] = (),
        lengths: Mapping[Section, int] = MappingProxyType({}),
    ) -> None:
        """`lengths`: of sections, in bytes, that have more than their slots say. Raises Mismatch for a missing name."""
        self.structs = structs
        self.slots = tuple(slots)
        self.tcp_flags = tcp_flags
        self.fields = self._has_fields = tuple(fields)
        self.parts = frozenset(slot.part for slot in slots)
        self._max_values = structs.constant("MAX_VALUES")
        task, site = structs.layout("task"), structs.layout("site")
        self._task, self._site = task.getter("cpu", "pid", "comm"), site.getter("addr", "reason")
        self._decoders: dict[Section, list[tuple[str, slice, Callable[[bytes], Any]]]] = {s: [] for s in Section}
        self._keys = [(slot.part, PARTS[slot.part].key) for slot in slots if PARTS[slot.part].key]
        self.always: frozenset[str] = frozenset()  # parts that are there whether they were asked for or not
        ends = dict.fromkeys(Section, 0) | {Section.HIT: site.size} | dict(lengths)
        for slot in slots:
            part = PARTS[slot.part]
            layout = structs.layout(part.struct) if part.struct else None
            end = slot.at + (layout.size if layout else 0) + slot.size
            constants = [structs.names(enum) for enum in part.enums]
            decoder = part.decoder(layout or slot.size, *constants)
            self._decoders[slot.section].append((slot.part, slice(slot.at, end), decoder))
            ends[slot.section] = max(ends[slot.section], end + -end % WORD)
        self.has_details = bool(self._decoders[Section.DETAILS])
        _, self._follow_at, self._follow = (self._decoders[Section.FOLLOW] or [("", slice(0), _no_follow)])[0]
        # Of the fields of Record, in bytes.
        hit, packet, follow, time, details = (ends[section] for section in Section)
        self.sizes = (WORD, task.size, hit, packet, follow, time, details)
        # As for struct: the same fields.
        self.format = f"Q{task.size}s{hit}s{packet}s{follow}s{'Q' if time else '0s'}{details}s"

    def narrowed(self, parts: Mapping[str, int], fields: Sequence[Field] = (), *, tcp_flags: bool = False) -> Self:
        """Return the schema of the same records for somebody who asks only for these of what they have.

        `parts` have sizes, of which that of `payload` counts; parts that are `always` there are shown. `fields` are
        some of this one's.
        """
        other = copy(self)
        other.parts = frozenset(part for part in self.parts if part in parts or part in self.always)
        other.fields = tuple(fields)
        other.tcp_flags = self.tcp_flags and tcp_flags
        other._keys = [key for key in self._keys if key[0] in other.parts]
        other._decoders = {
            section: [decoder for decoder in decoders if decoder[0] in other.parts]
            for section, decoders in self._decoders.items()
        }
        if self.tcp_flags and not tcp_flags:
            other._decoders[Section.PACKET] = [
                (name, at, _without_flags(decode) if name in ("tuple", "tunnel") else decode)
                for name, at, decode in other._decoders[Section.PACKET]
            ]
        if size := parts.get("payload"):
            other._decoders[Section.DETAILS] = [
                (name, at, _cut(decode, size) if name == "payload" else decode)
                for name, at, decode in other._decoders[Section.DETAILS]
            ]
        other.has_details = bool(other._decoders[Section.DETAILS])
        return other

    @property
    def size(self) -> int:
        """The bytes of a record."""
        return sum(self.sizes)

    def task(self, raw: bytes) -> Task:
        cpu, pid, comm = self._task(raw)
        return Task(cpu, pid, text_of(comm))

    def hit(self, raw: bytes) -> Hit:
        addr, reason = self._site(raw)
        return Hit(addr, reason, self._values(Section.HIT, raw).get("location", 0))

    def packet(self, raw: bytes) -> Values:
        return self._values(Section.PACKET, raw)

    def follow(self, raw: bytes) -> Follow:
        """Return which packet an event belongs to, of a run that follows packets."""
        value: Follow = self._follow(raw[self._follow_at])
        return value

    def details(self, raw: bytes) -> Values:
        return self._values(Section.DETAILS, raw)

    def values(self, parts: Values, of: str) -> list[tuple[Field, int]] | None:
        """Return the fields of an skb, or of a frame of XDP, with their values; None for an event of the other."""
        words = parts["values"]
        if of != ("xdp" if len(words) > self._max_values and words[-1] else "skb"):
            return None
        pairs = dict(zip([field for field in self._has_fields if field.of == of], words, strict=False))
        fields = [field for field in self.fields if field.of == of]
        return [(f, pairs[f] - (1 << 64) if f.signed and pairs[f] >> 63 else pairs[f]) for f in fields]

    def keyed(self, parts: Mapping[str, Any]) -> Values:
        """Return those of these values that are printed as they are, by the key of their part."""
        return {key: parts[name] for name, key in self._keys if name in parts}

    def event(self, record: Record, names: Names) -> Event:
        """Return a record as an event with names."""
        skb, task, raw_hit, packet, follow, time, details = record
        hit = self.hit(raw_hit)
        values = self.packet(packet) | self._values(Section.FOLLOW, follow) | self.details(details)
        if isinstance(time, int):
            values["time"] = time
        return Event(skb, self.task(task), hit, names.function(hit), values)

    def _values(self, section: Section, raw: bytes) -> Values:
        return {name: decode(raw[place]) for name, place, decode in self._decoders[section]}


def _no_follow(_raw: bytes) -> Follow:
    raise LookupError("the run does not follow packets")


def _without_flags(decode: Callable[[bytes], FlowTuple | None]) -> Callable[[bytes], FlowTuple | None]:
    def without(raw: bytes) -> FlowTuple | None:
        t = decode(raw)
        return t and t._replace(flags=0)

    return without


def _cut(decode: Callable[[bytes], Payload], size: int) -> Callable[[bytes], Payload]:
    def cut(raw: bytes) -> Payload:
        payload = decode(raw)
        return payload._replace(data=payload.data[:size])

    return cut
