"""Events grouped by packet: each packet is written as a whole once it has ended, or was not seen for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pwru.record.packets import Packets
from pwru.sinks import Source, StreamSink
from pwru.sinks.time import EventClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pwru.record.account import Account
    from pwru.record.names import Names
    from pwru.record.packets import Way
    from pwru.record.schema import Record, Schema
    from pwru.record.shown import Shown
    from pwru.sinks.lines import LineStyle
    from pwru.sinks.stream import Stream

_TICK = 0.2  # seconds after which a packet that has ended is printed although no other event comes

_OPTIONAL = ("follow", "location")


class Form(Protocol):
    """How a packet is written."""

    def __init__(self, schema: Schema, names: Names, style: LineStyle) -> None: ...

    def text(self, way: Way) -> str: ...

    @staticmethod
    def account(account: Account) -> str: ...


class Group(StreamSink):
    """Holds back the events of packets that are on their way. `events` are those that it took, and did not give up."""

    tick = _TICK

    def __init__(self, form: type[Form], stream: Stream, style: LineStyle, shown: Shown | None = None) -> None:
        """`shown`: what is printed of what the source has, if that has it; None: all of it."""
        self._make = form
        super().__init__(stream)
        self._style = style
        self._shown = shown
        self._form: Form
        self._grouped: Packets | None = None
        self._clock = EventClock()  # who reads slowly is late: so is what is due

    def begin(self, source: Source) -> None:
        numbers = source.numbers if "follow" in source.schema.parts else None
        self._grouped = Packets(source.schema, source.names, numbers)
        self._form = self._make(self._of(source.schema), source.names, self._style)
        self.stream.begin(b"")

    def _of(self, schema: Schema) -> Schema:
        """Return the schema for what is shown; who caused an event, and which packet it is of, may be unknown."""
        if not self._shown:
            return schema
        parts = {
            part: size for part, size in self._shown.parts.items() if part not in _OPTIONAL or part in schema.parts
        }
        tcp_flags = self._shown.tcp_flags and schema.tcp_flags
        return self._shown._replace(parts=parts, tcp_flags=tcp_flags).of(schema)

    def write(self, records: list[Record]) -> int:
        assert self._grouped
        self.events += len(records)
        ways = self._grouped.add(records)
        self._clock.set(records[-1][5])  # type: ignore[arg-type]  # Packets wants a time
        self.packets, self.not_followed = self._grouped.begun, self._grouped.not_followed
        return self._put(ways)

    def idle(self) -> None:
        """Write what is over by now."""
        if self._grouped:
            self._put(self._grouped.sweep(self._clock.now()))

    def flush(self) -> None:
        if self._grouped:
            self._put(self._grouped.drain())

    def _put(self, ways: Sequence[Way]) -> int:
        """Write packets; return how many events were given up."""
        texts = [self._form.text(way) for way in ways]
        bytes_given_up, given_up = self.stream.write("".join(texts)) if texts else 0, 0
        for way, text in zip(reversed(ways), reversed(texts), strict=True):
            if bytes_given_up <= 0:
                break
            bytes_given_up -= len(text.encode())
            given_up += len(way.records)
        self.events -= given_up
        return given_up

    def account(self, account: Account) -> str:
        return self._make.account(account)
