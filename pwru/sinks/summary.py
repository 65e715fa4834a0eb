"""The summary of a trace: drops, ways and times, printed at its end and, on a terminal, kept up to date until then."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pwru.record.packets import Packets
from pwru.record.summary import Summary
from pwru.sinks import Source, StreamSink
from pwru.sinks.time import EventClock

if TYPE_CHECKING:
    from pwru.record.account import Account
    from pwru.record.packets import Way
    from pwru.record.schema import Record
    from pwru.sinks.stream import Stream

TICK = 1.0  # seconds from one picture to the next
# What a terminal that knows it shows at once: others ignore it.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_CLEAR_LINE, _CLEAR_REST = "\x1b[K", "\x1b[J"


class Summarize(StreamSink):
    """Prints one summary of all packets, as text or as one JSON object.

    `live`: the stream is a terminal, and until the end it has a picture that is made anew once per TICK.
    """

    def __init__(self, stream: Stream, *, json: bool = False, live: bool = False) -> None:
        super().__init__(stream)
        self._json = json
        self._live = live and not json
        self.tick = TICK if self._live else None
        self._packets: Packets | None = None
        self._summary: Summary | None = None
        self._clock = EventClock()  # what is due by it: events that were not read yet are not late
        self._is_recorded = False
        self._height = 0  # of the last picture, in lines
        self._due = 0.0
        self._ended = False

    def begin(self, source: Source) -> None:
        self._is_recorded = bool(source.about.trace)
        self._summary = Summary(source.schema, source.names, source.lives)
        self._packets = Packets(source.schema, source.names, source.numbers, idle=self._summary.patience)
        self.stream.begin(b"")

    def write(self, records: list[Record]) -> int:
        assert self._packets
        if records:
            self._clock.set(records[-1][5])  # type: ignore[arg-type]  # Packets demands that records have times
        self._add(self._packets.add(records))
        self.events += len(records)
        self.packets, self.not_followed = self._packets.begun, self._packets.not_followed
        if self._live and time.monotonic() >= self._due:
            self._draw()
        return 0

    def idle(self) -> None:
        if self._live and self._packets:
            self._add(self._packets.sweep(self._clock.now()))
            self._draw()

    def ending(self) -> None:
        if self._summary and not self._ended:
            self._ended = True
            self._summary.now = self._now()

    def flush(self) -> None:
        assert self._packets
        self._add(self._packets.drain())

    def finish(self, account: Account) -> None:
        """Print all of it, in the place of the last picture."""
        assert self._summary
        self._summary.lost = account.full + account.busy + account.missed
        if self._json:
            import json

            from pwru.sinks.summary_json import members

            text = json.dumps(members(self._summary)) + "\n"
        else:
            from pwru.sinks.summary_text import lines

            text = "\n".join(lines(self._summary, self._width())) + "\n"
        self._put(text)

    def account(self, account: Account) -> str:
        return account.printed(as_json=self._json)

    def _add(self, ways: list[Way]) -> None:
        assert self._packets
        assert self._summary
        self._summary.add(ways)
        self._summary.evicted = self._packets.evicted
        self._summary.begun = self._packets.begun
        if not self._ended:
            self._summary.now = self._now()

    def _now(self) -> int:
        """Return the time, as events have it: exactly, unless they are of a recording."""
        return self._clock.now() if self._is_recorded else time.monotonic_ns()

    def _draw(self) -> None:
        """Show as much of it as the terminal has room for."""
        assert self._summary
        assert self.stream.fd is not None
        from pwru.sinks.summary_text import fitting

        self._due = time.monotonic() + TICK
        width, height = os.get_terminal_size(self.stream.fd)
        self._put("".join(f"{line}{_CLEAR_LINE}\n" for line in fitting(self._summary, width, height - 1)))

    def _put(self, text: str) -> None:
        """Write text in the place of the last picture, if there is one: line by line, so that nothing flickers."""
        if self._live:
            up = f"\r\x1b[{self._height}A" if self._height else "\r"
            self._height = text.count("\n")
            text = f"{_BEGIN}{up}{text}{_CLEAR_REST}{_END}"
        self.stream.write(text)

    def _width(self) -> int:
        """Return the width of the terminal, 0 for what is none."""
        fd = self.stream.fd
        return os.get_terminal_size(fd).columns if fd is not None and os.isatty(fd) else 0
