"""The events of a chunk, as columns, with the numbers of their packets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pwru.record.columns import NONE, Columns, columns_of

if TYPE_CHECKING:
    from pwru.record.follow import Numbered, Numbers
    from pwru.record.schema import Record, Schema


class Selected(NamedTuple):
    """`numbered`: of each value of the column `follow`. `keep`: whether each event is wanted; None: all are."""

    columns: Columns
    numbered: Sequence[Numbered] = ()
    keep: Sequence[bool] | None = None

    @property
    def events(self) -> int:
        """How many are wanted."""
        return self.columns.events if self.keep is None else sum(self.keep)


class Numbering:
    """Gives the packets of one source their numbers; values of the column `follow` are in the order in which they came.

    What the last chunk has said is known.
    """

    def __init__(self, schema: Schema, numbers: Numbers) -> None:
        self._follow = schema.follow if "follow" in schema.parts else None
        self._numbers = numbers
        self._known: dict[bytes, Numbered] = {}

    def of(self, columns: Columns) -> list[Numbered]:
        """Return the numbers of each value of the column `follow`."""
        follow, known, see = self._follow, self._known, self._numbers.numbered
        if follow is None:
            return []
        values = columns.columns.get("follow", NONE).values
        told = [known.get(raw) or see(follow(raw)) for raw in values]
        self._known = dict(zip(values, told, strict=True))
        return told

    def all_of(self, records: Sequence[Record], offset: int) -> Selected:
        """Return these records; `offset` as in Columns."""
        columns = columns_of(records, offset)
        return Selected(columns, self.of(columns))
