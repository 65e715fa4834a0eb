"""One file of a recording, read from its beginning to its end or to where it is damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO

from pwru.record import bounds, chunks, columns, heading
from pwru.record.account import Account, Waiting
from pwru.record.chunks import Damaged
from pwru.record.columns import Columns
from pwru.record.heading import Heading
from pwru.record.tables import RecordedNames

_WAITING = 1 << 12  # skbs that a recording has of those that wait


class Recording:
    """Has the heading, and the names and the account as far as chunks() has come; None: no account has come."""

    def __init__(self, file: IO[bytes], names: RecordedNames | None = None) -> None:
        """Read the header. Raises PwruError if this is no recording, Damaged, and OSError.

        `names`: of the file before this one; they grow.
        """
        self._chunks = chunks.read(file)
        self.heading = self._header()
        self.names = names or RecordedNames(sees_ends=self.heading.about.sees_ends)
        self.account: Account | None = None
        self.continued = False  # another file goes on where this one ends

    def _header(self) -> Heading:
        for kind, data in self._chunks:
            if kind == chunks.HEADER:
                return heading.read(data)
        raise Damaged("it has no header")

    def chunks(self) -> Iterator[Columns]:
        """Yield the events, chunk by chunk. What a later version has besides is stepped over. Raises Damaged."""
        for kind, data in self._chunks:
            if kind == chunks.NAMES:
                self.names.read(data)
            elif kind == chunks.EVENTS:
                events = columns.decode(data, self.heading.columns)
                self.names.offset = events.offset
                yield events
            elif kind == chunks.CONTINUED:
                self.continued = True
            elif kind == chunks.ACCOUNT:
                self.account = read_account(data)


def write_account(account: Account) -> bytes:
    """Return the data of the chunk."""
    waiting = [list(waiting) for waiting in account.waiting[:_WAITING]]
    return bounds.dump(account._asdict() | {"living": (), "waiting": waiting})


def read_account(data: bytes) -> Account:
    """Return the account; what this version does not know is left out. Raises Damaged."""
    with bounds.damaged("its account"):
        said = bounds.load(data)
        blank = Account(0, 0, 0, 0, 0)
        known = {name: said[name] for name in Account._fields if name in said and name not in ("living", "waiting")}
        for name, value in known.items():
            kind = type(getattr(blank, name))
            if type(value) is not kind or (kind is int and bounds.number(value, 62) != value):
                raise ValueError
        waiting = tuple(_waiting(*entry) for entry in said.get("waiting", ()))
        return blank._replace(**known, waiting=waiting)


def _waiting(packet: int, instance: int, seconds: float, place: str, name: str) -> Waiting:
    if not math.isfinite(seconds):
        raise ValueError
    numbers = bounds.number(packet), bounds.number(instance)
    return Waiting(*numbers, float(seconds), bounds.name(place), bounds.name(name))
