"""Counts packets, for sinks that make no lines."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from pwru.record.account import Account
from pwru.record.memo import CACHE_LIMIT
from pwru.sinks.follow import Following
from pwru.sinks.skbs import Skbs

if TYPE_CHECKING:
    from pwru.record.columns import Columns
    from pwru.record.schema import Record
    from pwru.sinks import Source


class PacketCount:
    """Sees records; has the numbers that an account is to have."""

    def __init__(self, source: Source) -> None:
        self._schema, self._names = source.schema, source.names
        self._skbs = Skbs(lambda _: "")
        self._releasing: dict[bytes, tuple[bool, bool]] = {}  # whether the skb ends there, and whether it has before
        self._following: Following | None = None
        if "follow" in source.schema.parts:
            self._following = Following(source.schema.follow, lambda *_: ("", "", ""), self._skbs, source.numbers)

    @property
    def packets(self) -> int:
        return self._skbs.count + (self._following.count if self._following else 0)

    @property
    def not_followed(self) -> int:
        """How many packets, of a run that follows packets, were not followed from their beginning."""
        return self._skbs.count if self._following else 0

    def see(self, records: list[Record]) -> None:
        self._skbs.begun.clear()
        if self._following is None:
            self._see((skb, hit) for skb, _, hit, *_ in records)
            return
        last = {follow: (skb, hit) for skb, _, hit, _, follow, _, _ in records}
        if others := self._see_last(last, self._following):
            self._see((skb, hit) for skb, _, hit, _, follow, _, _ in records if follow in others)

    def see_columns(self, events: Columns) -> None:
        """The same, of events as a recording has them: what repeats is looked at once."""
        skbs, hits, follows = (events.columns[name] for name in ("skb", "hit", "follow"))
        each = zip(skbs.each(events.events), hits.each(events.events), strict=True)
        self._skbs.begun.clear()
        if self._following is None:
            self._see(each)
            return
        at_last = dict(zip(follows.indices, range(events.events), strict=True))
        last = {
            follows.values[follow]: (skbs.values[skbs.indices[at]], hits.values[hits.indices[at]])
            for follow, at in at_last.items()
        }
        if others := self._see_last(last, self._following):
            self._see(
                event for event, follow in zip(each, follows.each(events.events), strict=True) if follow in others
            )

    def _see_last(self, last: dict[bytes, tuple[int, bytes]], following: Following) -> set[bytes]:
        """See the last event of each: where it was. Return those that are not followed."""
        following.begun.clear()
        now, others = monotonic(), set()
        for follow, (skb, hit) in last.items():
            known = following.get(follow) or following.see(follow, skb)
            if known.skb:
                known.skb.seen, known.skb.hit = now, hit
            else:
                others.add(follow)
        return others

    def _see(self, events: Iterable[tuple[int, bytes]]) -> None:
        skbs, releasing = self._skbs, self._releasing
        for skb, hit in events:
            if hit not in releasing:
                if len(releasing) >= CACHE_LIMIT:
                    releasing.clear()
                addr = self._schema.hit(hit).addr
                releasing[hit] = addr in self._names.ends, addr in self._names.after_ends
            ends, after = releasing[hit]
            if ends or after:
                skbs.released(skb, ends=ends, after=after)
            else:
                skbs[skb]  # counts

    def account(self, account: Account, end: float | None) -> Account:
        """Return the account with who waits at the `end`, as time.monotonic() has it."""
        if end is None or not self._following or not self._names.sees_ends:
            return account
        waiting = self._following.waiting(
            end, account.living, lambda hit: self._names.function(self._schema.hit(hit)).name
        )
        return account._replace(waiting=waiting)
