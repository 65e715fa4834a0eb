"""A table for Parquet: see events.arrow."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any

from pwru.errors import PwruError
from pwru.events.selected import Numbering, Selected
from pwru.events.source import need_arrow
from pwru.record.columns import Columns
from pwru.sinks import Sink, Source
from pwru.sinks.counting import PacketCount

if TYPE_CHECKING:
    from pwru.events.parquet import Writer
    from pwru.record.account import Account
    from pwru.record.schema import Record

_COUNTED = ("skb", "hit", "follow")  # what packets are counted by


class ParquetFile(Sink):
    """Takes records, or columns as a recording has them, which takes a fraction of the time."""

    takes_columns = True

    def __init__(self, path: str, *, json: bool) -> None:
        """`json`: the account is an object. Raises PwruError if pyarrow is missing."""
        self._path, self._json = path, json
        self._arrow = need_arrow()
        self._writer: Writer | None = None
        self._failure: PwruError | None = None

    def open(self) -> None:
        """Do nothing: the file is created when it is known what is in it."""

    def begin(self, source: Source) -> None:
        from pwru.events.parquet import Writer

        self._names = source.names
        self._numbering = Numbering(source.schema, source.numbers)
        self._count = PacketCount(source)
        self._batches: Any = self._arrow.Batches(source.schema, lambda: self._names)
        self._writer = Writer(self._path, self._batches.schema)

    def write(self, records: list[Record]) -> int:
        self._count.see(records)
        self._put(self._numbering.all_of(records, self._names.clock_offset()), len(records))
        return len(records) if self._failure else 0

    def write_columns(self, selected: Selected) -> int:
        events, offset, columns = selected.columns
        counted = Columns(events, offset, {name: columns[name] for name in _COUNTED if name in columns}).records()
        counted = counted if selected.keep is None else list(compress(counted, selected.keep))
        self._count.see(counted)
        self._put(selected, len(counted))
        return len(counted) if self._failure else 0

    def _put(self, selected: Selected, events: int) -> None:
        self.packets, self.not_followed = self._count.packets, self._count.not_followed
        if not events or self._writer is None:
            return
        try:
            self._writer.write(self._batches.batch(selected))
            self.events += events
        except PwruError as error:
            self._failure = error

    def flush(self) -> None:
        """Write the end of the file: it is none without that."""
        try:
            self.close()
        except PwruError as error:
            self._failure = self._failure or error

    def account(self, account: Account) -> str:
        return account.printed(as_json=self._json)

    def close(self) -> None:
        if self._writer:
            writer, self._writer = self._writer, None
            writer.close()

    @property
    def failure(self) -> PwruError | None:
        return self._failure
