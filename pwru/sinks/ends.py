"""With which events each packet begins and ends, for whoever does not want all those between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pwru.record.follow import ENDED_LIMIT, OTHER
from pwru.record.memo import put_last
from pwru.sinks.skbs import Skbs

if TYPE_CHECKING:
    from pwru.record.follow import Skb
    from pwru.record.parts import Follow
    from pwru.record.schema import Record
    from pwru.sinks import Source
    from pwru.sinks.follow import Following

HELD_LIMIT = 1 << 14  # packets whose last event so far is held, at most: 14 MB, with 128 bytes of each packet
_BEGINS, _ENDS = "begins", "ends"


class Who(NamedTuple):
    """Which packet an event is of: the skb, if it is followed, or the address. `relation`: what the event tells."""

    skb: Skb | int
    relation: str = ""
    begins: bool = False
    ends: bool = False


class Packets:
    """Tells the packets of a source apart."""

    def __init__(self, source: Source) -> None:
        self._skbs = Skbs(lambda _: "", _BEGINS)
        self._following: Following | None = None
        if "follow" in source.schema.parts:
            from pwru.sinks.follow import Following

            self._following = Following(source.schema.follow, _texts, self._skbs, source.numbers)

    def of(self, record: Record, *, ends: bool, after: bool) -> Who:
        """Return whose event it is: where an skb that is not followed `ends`, or which has it `after` its end."""
        following = self._following
        if following is not None:
            followed = following.get(record.follow) or following.see(record.follow, record.skb)
            if followed.skb:
                return Who(followed.skb, followed.relation, ends=bool(followed.after))
        skbs = self._skbs
        begins = skbs.released(record.skb, ends=ends, after=after) if ends or after else skbs[record.skb]
        return Who(record.skb, begins=bool(begins), ends=ends)


def _texts(event: Follow, _skb: Skb | None, parent: Skb | None) -> tuple[str, str, str]:
    relation = event.relation or ""
    if relation and parent:
        relation = f"{relation} of {parent.name}" if relation != "merged" else f"merged into {parent.name}"
    return "", _ENDS * event.ended, relation


class Seen(NamedTuple):
    """An event, and whether its function drops its packet, or frees it for whatever cause."""

    record: Record
    who: Who
    drops: bool
    frees: bool


class Pick(NamedTuple):
    """An event that is to be written: `how` it is one of its packet's ends, and how the skb came about, if it is told.

    `whole`: the event, or one before it, that has the bytes of the packet. `after`: where a packet that is freed was
    before that.
    """

    seen: Seen
    how: str
    relation: str
    whole: Record | None
    after: Seen | None = None


class _Held:
    """A packet on its way: `last` is its last event so far, `first` the one that was picked as the first.

    `place`: the last event that does not free it.
    """

    __slots__ = ("drop", "first", "has_begun", "last", "place", "relation", "whole")

    def __init__(self, last: Seen, *, has_begun: bool) -> None:
        self.last = last
        self.has_begun = has_begun
        self.first: Seen | None = None
        self.drop: Seen | None = None
        self.place: Seen | None = None
        self.whole: Record | None = None
        self.relation = ""


class Ends:
    """Picks two events of each packet: the first at which it is whole, and the last.

    The last one is where it was dropped, if it was: what frees it then, says less. A packet that never was whole has
    none, unless it was dropped. Beyond HELD_LIMIT the packet that was not seen for longest has its last event picked:
    if it is seen after all, another one will be.
    """

    def __init__(self, is_whole: Callable[[Record], bool], limit: int = HELD_LIMIT) -> None:
        """`is_whole`: whether the bytes of the packet that a record has are a packet."""
        self._is_whole = is_whole
        self._limit = limit
        self._held: dict[Skb | int, _Held] = {}
        # Those that have come to their end, and those that gave way to others.
        self._ended: dict[Skb | int, None] = {}
        self._evicted: dict[Skb | int, None] = {}

    def take(self, seen: Seen) -> Iterator[Pick]:
        """Yield what the event decides."""
        key = seen.who.skb
        if not isinstance(key, int) and key.instance == OTHER:  # it is not known which skb that is
            return
        if seen.who.begins:
            if (before := self._held.pop(key, None)) is not None:
                yield from self._last(before, "last seen in")
            self._ended.pop(key, None)
            self._evicted.pop(key, None)
        elif key in self._ended:
            return
        held = self._held.pop(key, None)
        if held is None:
            held = _Held(seen, has_begun=key in self._evicted)
        held.last = seen
        held.relation = seen.who.relation or held.relation
        if not seen.frees:
            held.place = seen
        if seen.drops:
            held.drop = seen
        if seen.who.ends:
            put_last(self._ended, key, ENDED_LIMIT)
            yield from self._last(held, "ended in")
            return
        if not held.has_begun and self._is_whole(seen.record):
            held.has_begun = True
            held.first, held.whole = seen, seen.record
            yield Pick(seen, _how(seen, "first seen in"), held.relation, seen.record)
        self._held[key] = held
        if len(self._held) > self._limit:
            oldest = next(iter(self._held))
            put_last(self._evicted, oldest, ENDED_LIMIT)
            yield from self._last(self._held.pop(oldest), "last seen in")

    def flush(self) -> Iterator[Pick]:
        """Yield the last events of all packets that are on their way."""
        for held in self._held.values():
            yield from self._last(held, "last seen in")
        self._held.clear()

    def _last(self, held: _Held, how: str) -> Iterator[Pick]:
        last = held.drop or held.last
        if last is held.first:
            return
        whole = last.record if self._is_whole(last.record) else held.whole
        if whole is not None or last.drops:
            relation = last.who.relation if held.first else held.relation
            yield Pick(last, _how(last, how), relation, whole, held.place if last.frees else None)


def _how(seen: Seen, otherwise: str) -> str:
    return "dropped in" if seen.drops else otherwise
