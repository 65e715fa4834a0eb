"""Whether packets that are not seen any more are still on their way: not every end has an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pwru.record.names import Names
from pwru.record.packets import ENDED, Way
from pwru.record.schema import Schema

# By the address of an skb and its instance; None: nobody knows. See sinks.Source.
Lives = Callable[[int, int], bool | None]


class Place(NamedTuple):
    """An skb where it was seen last: its address and the number of its instance, 0 if it is not followed."""

    address: int
    instance: int


class Living:
    """Asks whoever knows; or else what has not been seen to end lives, if the trace sees ends at all."""

    def __init__(self, schema: Schema, names: Names, lives: Lives) -> None:
        self._schema, self._names, self._lives = schema, names, lives

    @property
    def known(self) -> bool:
        """Whether anything can be said."""
        return self._names.sees_ends or self._lives(0, 0) is not None

    def places(self, way: Way) -> list[Place]:
        """Return where the skbs of a way are that were not seen to end."""
        if way.cause == ENDED:
            return []
        found = []
        left = set(way.living)
        for record, skb in zip(reversed(way.records), reversed(way.of), strict=True):
            if skb in left:
                left.remove(skb)
                follows = record[4] and way.number  # packets that are not followed have no number
                found.append(Place(record[0], self._schema.follow(record[4]).instance if follows else 0))
            if not left:
                break
        return found

    def any(self, places: Sequence[Place]) -> bool:
        """Return whether any of them lives."""
        for place in places:
            lives = self._lives(*place) if place.instance else None
            if lives or (lives is None and self._names.sees_ends):
                return True
        return False
