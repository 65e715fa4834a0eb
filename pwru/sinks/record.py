"""A recording: events as they came, with all that it takes to print them elsewhere. record.chunks has the format."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from pwru.errors import PwruError
from pwru.record import chunks, columns, heading
from pwru.record.recording import write_account
from pwru.record.tables import Writer
from pwru.sinks import Source, StreamSink
from pwru.sinks.counting import PacketCount

if TYPE_CHECKING:
    from pwru.record.account import Account
    from pwru.record.names import Names
    from pwru.record.schema import Record
    from pwru.sinks.stream import Stream

# So much is compressed together: more gains little, and a process that is killed takes it along.
_EVENTS = 1 << 15
_BYTES = 1 << 22
_CONTINUED = chunks.chunk(chunks.CONTINUED, b"")


class Recorder(StreamSink):
    """Writes chunks of events, at least one a second if any come."""

    tick = 1.0

    def __init__(self, stream: Stream, *, json: bool, command: Sequence[str]) -> None:
        """`stream`: where to. `json`: the account is an object. `command`: what the user typed after `pwru`."""
        super().__init__(stream)
        self._json = json
        self._command = tuple(command)
        self._held = columns.Builder()
        self._ended: float | None = None
        self._files = 0
        self._source: Source | None = None

    def open(self) -> None:
        super().open()
        if self.stream.fd is not None and os.isatty(self.stream.fd):
            raise PwruError("a recording is not for a terminal: name a file, or have it read by another program")

    def begin(self, source: Source) -> None:
        self._source = source
        self._names: Names = source.names
        about = source.about
        if not about.trace:  # it is no recording of before
            about = about._replace(trace=secrets.token_hex(8), command=self._command)
        self._tables = Writer(source.schema, source.names)
        self._count = PacketCount(source)
        self._most = min(_EVENTS, max(_BYTES // source.schema.size, 1))
        header = chunks.chunk(chunks.HEADER, heading.write(about, source.schema))
        self.stream.begin(chunks.start() + header)

    def write(self, records: list[Record]) -> int:
        if self.failure:  # when what was held before was written
            return len(records)
        while records:
            room = self._most - self._held.events
            taken, records = records[:room], records[room:]
            self._held.add(taken)
            self.events += len(taken)
            if self._held.events == self._most and (given_up := self._write()):
                return given_up + len(records)
        return 0

    def idle(self) -> None:
        self.flush()

    def flush(self) -> None:
        if self._held.events:
            self._write()

    def _write(self) -> int:
        """Write what is held. Return how many events were given up: none or all."""
        found = self._held.columns(self._names.clock_offset())
        self._held = columns.Builder()
        self._count.see_columns(found)
        self.packets, self.not_followed = self._count.packets, self._count.not_followed
        events = chunks.chunk(chunks.EVENTS, columns.encode(found))
        names = self._new_names(found)
        self.stream.make_room(len(names) + len(events), _CONTINUED)
        if self.stream.files != self._files:
            self._files = self.stream.files
            self._tables.forget()
            names = self._new_names(found)
        given_up = found.events if self.stream.put(names + events) else 0
        self.events -= given_up
        return given_up

    def _new_names(self, events: columns.Columns) -> bytes:
        return b"".join(chunks.chunk(chunks.NAMES, names) for names in self._tables.new(events))

    def ending(self) -> None:
        if self._ended is None:
            self._ended = monotonic()

    def finish(self, account: Account) -> None:
        self.stream.put(chunks.chunk(chunks.ACCOUNT, write_account(self._with_waiting(account))))

    def account(self, account: Account) -> str:
        account = self._with_waiting(account)
        return account.printed(as_json=self._json)

    def _with_waiting(self, account: Account) -> Account:
        self.ending()
        return self._count.account(account, self._ended) if self._source else account

    def reopen(self) -> None:
        self.stream.reopen(_CONTINUED)
