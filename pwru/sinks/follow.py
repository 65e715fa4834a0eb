"""Which packet each line is of, in a run that follows packets; packets that are not followed are told apart by skb."""

from collections.abc import Callable, Container
from typing import NamedTuple

from pwru.record.account import Waiting
from pwru.record.follow import ENDED_LIMIT, LIVING_LIMIT, Numbers, Skb
from pwru.record.memo import CACHE_LIMIT, put_last
from pwru.record.parts import Follow
from pwru.sinks.skbs import Skbs

WAITS = 1.0  # whoever was not seen for so long at the end is still waiting for something, in seconds
_KNOWN = ENDED_LIMIT + LIVING_LIMIT  # packets, at most
Form = Callable[[Follow, Skb | None, Skb | None], tuple[str, str, str]]


class Followed(NamedTuple):
    """What a line has of these bytes of its record: the texts of Format.follow(), and the skb, None if not followed.

    `begins`: this is the first event of its packet.
    """

    before: str
    after: str
    relation: str
    skb: Skb | None
    begins: bool = False


class Following(dict[bytes, Followed]):
    """What lines have, by the bytes of struct follow: kept until there are too many, and made by see()."""

    def __init__(self, decode: Callable[[bytes], Follow], form: Form, skbs: Skbs, numbers: Numbers | None) -> None:
        """`skbs` has the packets that are not followed."""
        super().__init__()
        self._decode = decode
        self._form = form
        self._skbs = skbs
        self.numbers = numbers or Numbers()
        self._known: dict[int, None] = {}  # packets that have begun, by their number
        self.count = 0  # packets that were followed from their beginning
        self.begun: list[int] = []  # the lines of the last batch with which a packet begins

    def see(self, raw: bytes, address: int) -> Followed:
        """Return what the line of an event has whose bytes are not among these; it is at this address."""
        event = self._decode(raw)
        if not event.packet:
            return self._keep(raw, Followed(*self._form(event, None, None), None))
        skb = self.numbers.see(event)
        followed = self._keep(raw, Followed(*self._form(event, skb, self.numbers.parent(event)), skb))
        was_among_others = not skb.hit and self._skbs.leave(address)
        if event.ended:
            self._skbs.end(address)
        if skb.packet.number in self._known:
            return followed
        put_last(self._known, skb.packet.number, _KNOWN)
        if was_among_others:  # until there was room for it
            return followed
        self.count += 1
        return Followed(*followed[:-1], begins=True)  # faster than _replace()

    def waiting(self, end: float, living: Container[int], place: Callable[[bytes], str]) -> tuple[Waiting, ...]:
        """Return the skbs that were not seen for long at the end, as time.monotonic() has it; oldest first.

        `living`: see Numbers.unseen(). `place`: what the function is called, by the bytes of a hit. It means nothing in
        a run that does not see ends: an skb that was not seen for long is one that has ended there.
        """
        return tuple(
            Waiting(skb.packet.number, skb.instance, end - skb.seen, place(skb.hit), skb.name)
            for skb in self.numbers.unseen(end - WAITS, living)
        )

    def _keep(self, raw: bytes, followed: Followed) -> Followed:
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[raw] = followed
        return followed
