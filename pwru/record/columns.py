"""How a recording codes events: each field of Record is a column, and what repeats is there once.

A column is a byte that says how it is coded, the length of what follows (32 bits), and that. All numbers are little
endian. docs/file-format.md describes it for other readers.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, count, repeat
from operator import sub
from typing import Any, NamedTuple

from pwru.record.chunks import Damaged
from pwru.record.schema import Record

# How a column is coded. EMPTY: the run has none of it. DISTINCT: the number of values (32 bits), the values, each of
# the column's size, and for each event which of them it has, in the narrowest of INDICES. NUMBERS: 64 bits for each
# event. DELTAS: 64 bits for the first, then for each the difference from the one before it, 32 bits with a sign.
EMPTY, DISTINCT, NUMBERS, DELTAS = range(4)
INDICES = "BHI"
MAX_EVENTS = 1 << 16  # in one chunk
_BYTES = bytes(range(256))
_HEAD = struct.Struct("<Iq")  # the number of events; how far the time of day is ahead of the clock of events, in ns
_COLUMN = struct.Struct("<BI")
_NUMBER = struct.Struct("<Q")
_COUNT = struct.Struct("<I")
_MAX_TIME = 1 << 62  # ns: 146 years
COLUMNS = Record._fields
_NUMBERED = ("skb", "time")


class Column(NamedTuple):
    """`values` are distinct, of which each event has the one at its index; `indices` is empty if each has its own."""

    values: Sequence[Any]
    indices: Sequence[int]

    def each(self, events: int) -> Iterator[Any] | Sequence[Any]:
        """Return the values of all events: so many."""
        if self.indices:
            return map(self.values.__getitem__, self.indices)
        return self.values if self.values else repeat(b"", events)


class Columns(NamedTuple):
    """The events of a chunk. `offset`: see Names.clock_offset()."""

    events: int
    offset: int
    columns: dict[str, Column]

    def records(self) -> list[Record]:
        """Return the events: plain tuples with the fields of Record."""
        each = [self.columns.get(name, NONE).each(self.events) for name in COLUMNS]
        return list(zip(*each, strict=True))  # type: ignore[arg-type]


NONE = Column((), ())


class Builder:
    """Makes the columns of a chunk, of events as they come: what was just cut up is looked up faster than old records.

    A chunk has at most MAX_EVENTS.
    """

    def __init__(self) -> None:
        self.events = 0
        # A look-up of a new value gives it the next index.
        self._columns = [(name, defaultdict[Any, int](count().__next__), list[int]()) for name in COLUMNS]

    def add(self, records: Sequence[Record]) -> None:
        """Add some, at least one."""
        self.events += len(records)
        for (name, values, found), column in zip(self._columns, zip(*records, strict=True), strict=True):
            if column[0] != b"":
                found.extend(column if name == "time" else map(values.__getitem__, column))

    def columns(self, offset: int) -> Columns:
        """Return what was added, at least one event; `offset`: see Columns."""
        return Columns(
            self.events, offset, {name: _column(name, values, found) for name, values, found in self._columns}
        )


def columns_of(records: Sequence[Record], offset: int) -> Columns:
    """Return records, at least one, as columns."""
    builder = Builder()
    builder.add(records)
    return builder.columns(offset)


def _column(name: str, values: Mapping[Any, int], found: list[int]) -> Column:
    if name == "time":
        return Column(found, ())
    return Column(list(values), array(_index(len(values)), found)) if found else NONE


def encode(events: Columns) -> bytes:
    """Return the data of the chunk."""
    pieces = [_HEAD.pack(events.events, events.offset)]
    for column in events.columns.values():
        coding, data = _distinct(column) if column.indices else _times(column.values)
        pieces += (_COLUMN.pack(coding, len(data)), data)
    return b"".join(pieces)


def _distinct(column: Column) -> tuple[int, bytes]:
    values = column.values
    coded = b"".join(values) if isinstance(values[0], bytes) else _pack("Q", values)
    return DISTINCT, b"".join((_COUNT.pack(len(values)), coded, _pack(_index(len(values)), column.indices)))


def _times(column: Sequence[int]) -> tuple[int, bytes]:
    if not column:
        return EMPTY, b""
    try:
        return DELTAS, _NUMBER.pack(column[0]) + _pack("i", map(sub, column[1:], column))
    except OverflowError:
        return NUMBERS, _pack("Q", column)


def _index(values: int) -> str:
    return next(code for code in INDICES if values <= 1 << 8 * array(code).itemsize)


def _pack(code: str, numbers: Any) -> bytes:
    return _bytes(array(code, numbers))


def _bytes(numbers: Any) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    packed: bytes = numbers.tobytes()
    return packed


def _unpack(code: str, data: bytes | memoryview) -> array[int]:
    numbers = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def decode(data: bytes, columns: Sequence[tuple[str, int]]) -> Columns:
    """Return the events of a chunk; `columns` are the names and sizes of what it has, in this order.

    A column without a name here is left out. Raises Damaged.
    """
    try:
        events, offset = _HEAD.unpack_from(data)
        if not 0 < events <= MAX_EVENTS or abs(offset) > _MAX_TIME:
            raise Damaged("its events are damaged")
        at, found = _HEAD.size, dict[str, Column]()
        for name, size in columns:
            coding, length = _COLUMN.unpack_from(data, at)
            at += _COLUMN.size
            if length > len(data) - at:
                raise Damaged("its events are damaged")
            if name in COLUMNS:
                if (coding in (NUMBERS, DELTAS)) != (name == "time" and size > 0):
                    raise Damaged("its events are damaged")
                found[name] = _DECODERS[coding](data[at : at + length], events, 0 if name in _NUMBERED else size)
                if bool(found[name].values) != bool(size):
                    raise Damaged("its events are damaged")
            at += length
    except (struct.error, ValueError, IndexError, KeyError):
        raise Damaged("its events are damaged") from None
    return Columns(events, offset, found)


def _no_column(data: bytes, _events: int, _size: int) -> Column:
    if data:
        raise ValueError
    return NONE


def _distinct_column(data: bytes, events: int, size: int) -> Column:
    """`size` is that of the values in bytes, 0 for numbers."""
    (distinct,) = _COUNT.unpack_from(data)
    end = _COUNT.size + distinct * (size or _NUMBER.size)
    if not 0 < distinct <= events or end > len(data):
        raise ValueError
    values: Sequence[Any]
    if size:
        values = [data[at : at + size] for at in range(_COUNT.size, end, size)]
    else:
        values = _unpack("Q", data[_COUNT.size : end])
    indices = _unpack(_index(distinct), data[end:])
    if len(indices) != events or not _all_below(distinct, indices):
        raise ValueError
    return Column(values, indices)


def _all_below(limit: int, indices: array[int]) -> bool:
    if indices.itemsize > 1:
        return max(indices) < limit
    return not indices.tobytes().translate(None, _BYTES[:limit])  # thirty times as fast


def _times_column(data: bytes, events: int, size: int) -> Column:
    numbers = _unpack("Q", data) if len(data) == events * _NUMBER.size else ()
    if size or len(numbers) != events or max(numbers) > _MAX_TIME:
        raise ValueError
    return Column(numbers, ())


def _deltas_column(data: bytes, events: int, size: int) -> Column:
    (first,) = _NUMBER.unpack_from(data)
    numbers = list(accumulate(_unpack("i", data[_NUMBER.size :]), initial=first))
    if size or len(numbers) != events or min(numbers) < 0 or max(numbers) > _MAX_TIME:
        raise ValueError
    return Column(numbers, ())


_DECODERS: dict[int, Callable[[bytes, int, int], Column]] = {
    EMPTY: _no_column,
    DISTINCT: _distinct_column,
    NUMBERS: _times_column,
    DELTAS: _deltas_column,
}
