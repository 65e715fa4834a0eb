"""Small numbers in the place of the kernel's for packets that are followed, and which of their skbs still live."""

from collections.abc import Container, Iterator
from string import ascii_lowercase
from typing import NamedTuple

from pwru.record.parts import Follow

# The skbs that have ended and are still known, at most. Functions that release an skb have it after its end, and what
# comes of a clone on another CPU may be seen after the end of the skb that it was made from.
ENDED_LIMIT = 1 << 14
LIVING_LIMIT = 1 << 16  # unless the kernel follows more: 33 MB

OTHER = -1

Skbs = dict[int, "Skb"]  # by the number that the kernel gave the instance


class Packet:
    """A packet: `number` is never used for another one. `segments`: the instance that has this number of a segment."""

    __slots__ = ("id", "instances", "known", "number", "segments")

    def __init__(self, id: int, number: int) -> None:
        self.id = id
        self.number = number
        self.instances = 0  # the last number that one got
        self.known = 0  # how many of its skbs are
        self.segments: dict[int, int] | None = None  # of few packets


class Skb:
    """One skb of a packet: `instance` is 0 for the first one, then 1, 2 … OTHER stands for skbs that are not of it.

    `seen` and `hit` are of its last event: whoever sees events keeps them, in whatever form. `hit` is empty until then.
    """

    __slots__ = ("hit", "instance", "merged", "packet", "seen", "segment")

    def __init__(self, packet: Packet, instance: int) -> None:
        self.packet = packet
        self.instance = instance
        self.segment = 0
        self.merged = False  # its data is another one's
        self.seen = 0.0
        self.hit = b""

    @property
    def name(self) -> str:
        """#17 for the first skb of a packet, then #17b, #17c …; #17/3 for the first that is segment 3, #17d/3 later.

        #17~ for another one that is worked on below a function that has #17.
        """
        if self.instance == OTHER:
            return f"#{self.packet.number}~"
        says_all = self.packet.segments and self.packet.segments.get(self.segment) == self.instance
        letters = "" if says_all or not self.instance else _letters(self.instance)
        return f"#{self.packet.number}{letters}{f'/{self.segment}' if self.segment else ''}"


class Numbered(NamedTuple):
    """The numbers of an event, and of the parent if it tells a relation.

    `packet` is 0 if it is not followed, and `parent_packet` if there is none. `instance`: OTHER for an skb that is not
    of the packet, and if there is no packet. `name`: see Skb.
    """

    packet: int = 0
    instance: int = OTHER
    name: str = ""
    parent_packet: int = 0
    parent_instance: int = OTHER


NOT_FOLLOWED = Numbered()


class Numbers:
    """Gives packets numbers in the order in which they appear, and their skbs, each within its packet.

    Whoever lives keeps its number, up to `limit` skbs: beyond it, the one that was not looked up for longest is
    forgotten. There are more than the kernel follows at a time only if their ends are not seen. Of those that have
    ended the last ENDED_LIMIT are known.
    """

    def __init__(self, limit: int = LIVING_LIMIT) -> None:
        self._limit = limit
        self._packets: dict[int, Packet] = {}
        self._living: Skbs = {}
        self._ended: Skbs = {}
        self._last = 0

    def see(self, follow: Follow) -> Skb:
        """Return the skb of an event of a packet that is followed, and remember whether it ends."""
        if not follow.instance:
            return self._other(follow.packet)
        skb = self._find(follow.packet, follow.instance)
        if follow.segment and follow.segment != skb.segment:
            skb.segment = follow.segment
            skb.packet.segments = skb.packet.segments or {}
            skb.packet.segments.setdefault(follow.segment, skb.instance)
        skb.merged = skb.merged or follow.relation == "merged"
        if follow.ended and follow.instance in self._living:
            self._ended[follow.instance] = self._living.pop(follow.instance)
            if len(self._ended) > ENDED_LIMIT:
                self._forget(self._ended, next(iter(self._ended)))
        return skb

    def parent(self, follow: Follow) -> Skb | None:
        """Return the other skb of a relation; None if that is not followed, or the event tells no relation."""
        if follow.relation is None or not follow.parent_packet:
            return None
        return self._find(follow.parent_packet, follow.parent)

    def numbered(self, follow: Follow) -> Numbered:
        """See an event, and return its numbers as they are now."""
        if not follow.packet:
            return NOT_FOLLOWED
        skb, parent = self.see(follow), self.parent(follow) if follow.relation else None
        if parent is None:
            return Numbered(skb.packet.number, skb.instance, skb.name)
        return Numbered(skb.packet.number, skb.instance, skb.name, parent.packet.number, parent.instance)

    def unseen(self, since: float, living: Container[int]) -> Iterator[Skb]:
        """Return the skbs that live and had their last event before a moment, as `Skb.seen` has it; oldest first.

        `living`: the instances of which the kernel says so. The end of an skb may have had no event.
        """
        unseen = (
            skb
            for instance, skb in self._living.items()
            if instance in living and skb.hit and not skb.merged and skb.seen < since
        )
        return iter(sorted(unseen, key=lambda skb: skb.seen))

    def _find(self, packet: int, instance: int) -> Skb:
        skb = self._ended.get(instance)
        if skb:
            if skb.packet.id == packet:
                return skb
            self._forget(self._ended, instance)  # no program of ours says that
        skb = self._living.get(instance)
        if skb:
            if skb.packet.id != packet:
                self._forget(self._living, instance)
                skb = None
            else:
                del self._living[instance]
        if skb is None:
            skb = self._new(packet, instance)
        self._living[instance] = skb  # the last one: the first was not looked up for longest
        if len(self._living) > self._limit:
            self._forget(self._living, next(iter(self._living)))
        return skb

    def _packet(self, id: int) -> Packet:
        packet = self._packets.get(id)
        if packet is None:
            self._last += 1
            packet = self._packets[id] = Packet(id, self._last)
        return packet

    def _other(self, packet: int) -> Skb:
        return Skb(self._packet(packet), OTHER)

    def _new(self, id: int, instance: int) -> Skb:
        packet = self._packet(id)
        packet.known += 1
        if instance == id:
            return Skb(packet, 0)
        packet.instances += 1
        return Skb(packet, packet.instances)

    def _forget(self, skbs: Skbs, instance: int) -> None:
        packet = skbs.pop(instance).packet
        packet.known -= 1
        if not packet.known:
            del self._packets[packet.id]


def _letters(instance: int) -> str:
    """Return b for 1, c for 2 … z for 25, then aa."""
    letters, number = "", instance + 1
    while number:
        number, letter = divmod(number - 1, len(ascii_lowercase))
        letters = ascii_lowercase[letter] + letters
    return letters
