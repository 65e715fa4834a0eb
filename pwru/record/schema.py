"""How the records of one run are decoded, wherever they are from.

All records of a run have the same parts and one size, and are cut up in bulk. What stays the same from event to event
is one run of bytes, so that whoever formats events can do so once per distinct run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pwru.record.event import Event, Hit, Task
from pwru.record.layout import Layout
from pwru.record.names import Names
from pwru.record.parts import PARTS, Field, Follow, Section, text_of


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
        self, structs: Structs, slots: Sequence[Slot], *, tcp_flags: bool = False, fields: Sequence[Field] = ()
    ) -> None:
        self.structs = structs
        self.slots = tuple(slots)
        self.tcp_flags = tcp_flags
        self.fields = tuple(fields)
        self.parts = frozenset(slot.part for slot in slots)
        self._max_values = structs.constant("MAX_VALUES")
        self._task, self._site = structs.layout("task"), structs.layout("site")
        self._decoders: dict[Section, list[tuple[str, slice, Callable[[bytes], Any]]]] = {s: [] for s in Section}
        self._keys = [(slot.part, PARTS[slot.part].key) for slot in slots if PARTS[slot.part].key]
        ends = dict.fromkeys(Section, 0) | {Section.HIT: self._site.size}
        for slot in slots:
            part = PARTS[slot.part]
            layout = structs.layout(part.struct) if part.struct else None
            end = slot.at + (layout.size if layout else 0) + slot.size
            constants = [structs.names(enum) for enum in part.enums]
            decoder = part.decoder(layout or slot.size, *constants)
            self._decoders[slot.section].append((slot.part, slice(slot.at, end), decoder))
            ends[slot.section] = max(ends[slot.section], end + -end % WORD)
        self.has_details = bool(ends[Section.DETAILS])
        # Of the fields of Record, in bytes.
        hit, packet, follow, time, details = (ends[section] for section in Section)
        self.sizes = (WORD, self._task.size, hit, packet, follow, time, details)
        # As for struct: the same fields.
        self.format = f"Q{self._task.size}s{hit}s{packet}s{follow}s{'Q' if time else '0s'}{details}s"

    @property
    def size(self) -> int:
        """The bytes of a record."""
        return sum(self.sizes)

    def task(self, raw: bytes) -> Task:
        cpu, pid, comm = self._task.unpack(raw)
        return Task(cpu, pid, text_of(comm))

    def hit(self, raw: bytes) -> Hit:
        site = self._site.unpack(raw)
        return Hit(site.addr, site.reason, self._values(Section.HIT, raw).get("location", 0))

    def packet(self, raw: bytes) -> Values:
        return self._values(Section.PACKET, raw)

    def follow(self, raw: bytes) -> Follow:
        """Return which packet an event belongs to, of a run that follows packets."""
        value: Follow = self._values(Section.FOLLOW, raw)["follow"]
        return value

    def details(self, raw: bytes) -> Values:
        return self._values(Section.DETAILS, raw)

    def values(self, parts: Values, of: str) -> list[tuple[Field, int]] | None:
        """Return the fields of an skb, or of a frame of XDP, with their values; None for an event of the other."""
        words = parts["values"]
        if of != ("xdp" if len(words) > self._max_values and words[-1] else "skb"):
            return None
        pairs = zip([field for field in self.fields if field.of == of], words, strict=False)
        return [(field, value - (1 << 64) if field.signed and value >> 63 else value) for field, value in pairs]

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
