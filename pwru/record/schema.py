"""What is in the records of one run: made once, from the object's BTF and the parts that the run asks for.

A record has the parts of the run only, so all records of a run have one size and are cut up in bulk. What stays the
same from event to event is one run of bytes, so that whoever formats events can do so once per distinct run.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pwru.record.event import Event, Hit, Task
from pwru.record.layout import Mismatch, Wire
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


class Schema:
    """The layout of the records of one run.

    `parts` are names. `tcp_flags`: whether tuples have the flags of TCP. `fields` are what the part `values` has.
    """

    def __init__(
        self, wire: Wire, sizes: Mapping[str, int], *, tcp_flags: bool = False, fields: Sequence[Field] = ()
    ) -> None:
        """`sizes`: the parts to have, each with its size in bytes, which counts for a part without a size of its own.

        Raises Mismatch if the object is of another version of pwru.
        """
        numbers = {name.removeprefix("PART_").lower(): number for name, number in wire.enum("part").items()}
        count = numbers.pop("nr_parts", -1)
        if numbers.keys() != PARTS.keys() or count != len(PARTS):
            raise Mismatch
        self.tcp_flags = tcp_flags
        self.fields = tuple(fields)
        self._max_values = wire.constant("MAX_VALUES")
        self._task, self._site = wire.layout("task"), wire.layout("site")
        at, asked = [0] * count, [0] * count
        end = wire.layout("event").size
        starts: dict[Section, int] = {}
        ends = {Section.HIT: end}
        self._decoders: dict[Section, list[tuple[str, slice, Callable[[bytes], Any]]]] = {s: [] for s in Section}
        wanted = [PARTS[name] for name in sorted(sizes, key=numbers.__getitem__)]
        for part in wanted:
            layout = wire.layout(part.struct) if part.struct else None
            size = asked[numbers[part.name]] = sizes[part.name] or part.size
            room = (layout.size if layout else 0) + size
            start = starts.setdefault(part.section, end if part.section is not Section.HIT else end - self._site.size)
            at[numbers[part.name]] = end
            place = slice(end - start, end - start + room)
            constants = [wire.names(enum) for enum in part.enums]
            self._decoders[part.section].append((part.name, place, part.decoder(layout or size, *constants)))
            end += (room + 7) // 8 * 8
            ends[part.section] = end
        self.parts = frozenset(sizes)
        self._keys = [(part.name, part.key) for part in wanted if part.key]
        self.size = end
        self._config: Values = {"record_size": end, "at": at, "size": asked, "tcp_flags": tcp_flags}
        self._wire = wire

        def length(section: Section) -> int:
            return ends[section] - starts[section] if section in starts else 0

        hit = ends[Section.HIT] - wire.layout("event").size + self._site.size
        self.has_details = Section.DETAILS in starts
        time = "Q" if "time" in sizes else "0s"
        # As for struct: the fields of Record.
        packet, follow, details = map(length, (Section.PACKET, Section.FOLLOW, Section.DETAILS))
        self.format = f"Q{self._task.size}s{hit}s{packet}s{follow}s{time}{details}s"
        assert struct.calcsize(f"={self.format}") == end

    def config(self, **values: int | bytes | Sequence[int]) -> bytes:
        """Return the bytes of struct config: `values` by the names of its members, and the layout of the records."""
        return self._wire.layout("config").pack({**values, **self._config})

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
