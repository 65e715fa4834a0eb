"""What scripts can do with a source of events, live or recorded: iterate, group by packet, make tables."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pwru.errors import PwruError

if TYPE_CHECKING:
    from pwru.events.selected import Selected
    from pwru.record.about import About
    from pwru.record.account import Account
    from pwru.record.event import Event
    from pwru.record.follow import Numbers
    from pwru.record.names import Names
    from pwru.record.packets import Way
    from pwru.record.schema import Record, Schema


class Source(Protocol):
    """What a live session and a recording both have."""

    @property
    def schema(self) -> Schema: ...

    @property
    def names(self) -> Names: ...

    @property
    def numbers(self) -> Numbers: ...

    @property
    def about(self) -> About: ...


class EventSource(ABC):
    """Gives events in the form that is asked for. What one form has taken of a live trace, no other gets."""

    @property
    @abstractmethod
    def source(self) -> Source:
        """Where the events are from."""

    @property
    def schema(self) -> Schema:
        """What events have: `schema.parts`, and what decodes them."""
        return self.source.schema

    @property
    def names(self) -> Names:
        """The names of what the records have as numbers."""
        return self.source.names

    @property
    def numbers(self) -> Numbers:
        """Gives the packets that are followed their numbers."""
        return self.source.numbers

    @property
    def about(self) -> About:
        """By whom, where and how it was traced."""
        return self.source.about

    @property
    @abstractmethod
    def account(self) -> Account:
        """How many events there were so far, and what was lost."""

    @abstractmethod
    def batches(self) -> Iterator[list[Record]]:
        """Yield the events as they are stored: see record.schema."""

    @abstractmethod
    def columns(self) -> Iterator[Selected]:
        """Yield the events as columns, chunk by chunk."""

    @abstractmethod
    def __iter__(self) -> Iterator[Event]:
        """Yield each event."""

    def packets(self) -> Iterator[Way]:
        """Yield the way of each packet once it is over, or was not seen for a second: see record.packets.

        Raises PwruError if the events have no time (the part `time`).
        """
        from pwru.record.packets import Packets

        grouping: Packets | None = None
        for records in self.batches():
            grouping = grouping or Packets(self.schema, self.names, self.numbers)
            yield from grouping.add(records)
        if grouping:
            yield from grouping.drain()

    def to_arrow(self, columns: Sequence[str] | None = None) -> Any:
        """Return a pyarrow.RecordBatchReader of the events: chunk by chunk, in memory that does not grow.

        reader.read_all() is a pyarrow.Table; Polars, pandas and DuckDB take either. `columns`: names of those that are
        wanted; None: all. Raises PwruError.
        """
        arrow = need_arrow()
        batches = arrow.Batches(self.schema, lambda: self.names, columns)
        return batches.reader(self.columns())

    def to_parquet(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> int:
        """Write the events to a file for Parquet, and return how many. `columns`: as in to_arrow().

        What precedes an exception, such as KeyboardInterrupt, is in the file. Raises PwruError.
        """
        arrow = need_arrow()
        from pwru.events.parquet import Writer

        batches = arrow.Batches(self.schema, lambda: self.names, columns)
        with Writer(os.fspath(path), batches.schema) as writer:
            for selected in self.columns():
                writer.write(batches.batch(selected))
        return writer.events


def need_arrow() -> Any:
    """Return the module events.arrow. Raises PwruError if pyarrow is missing."""
    try:
        from pwru.events import arrow
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise PwruError(
            "tables for Arrow and Parquet need the Python package pyarrow: pip install 'pwru[arrow]'"
        ) from None
    return arrow
