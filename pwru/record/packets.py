"""Records grouped by packet: the way of each, from its first event until all of its skbs have come to their ends.

What is on its way is held, up to a number of events.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pwru.errors import PwruError
from pwru.record.follow import ENDED_LIMIT, OTHER, Numbers, Packet, Skb
from pwru.record.memo import CACHE_LIMIT, Memo
from pwru.record.names import Function, Names
from pwru.record.schema import Record, Schema

STEPS_LIMIT = 1 << 17  # that are held: 60 MB, if they have all that a line shows
IDLE = 1_000_000_000  # ns without an event after which a packet is given out as unseen
# How long after the last end something more may come, in ns: what releases an skb has it after its end, and the first
# event of a clone may be on another CPU.
LINGER = 50_000_000

_RELEASES = re.compile(
    r"_*(k?free_|consume_|napi_consume_|skb_(release|free|consume|dst_drop)|sk_skb_reason_drop|tcp_drop).*"
)

# How a packet, or one of its skbs, ended. The last three: it may still be on its way. It was not seen for IDLE; there
# was no room for its steps; the trace ended.
DROPPED, ENDED, MERGED, UNSEEN, EVICTED, OPEN = "dropped", "ended", "merged", "unseen", "evicted", "open"


class Step(NamedTuple):
    """One event of a packet. `function` has the names as they were when the event came."""

    record: Record
    skb: Skb
    function: Function

    @property
    def time(self) -> int:
        """In ns since boot."""
        return _time(self.record)


class Birth(NamedTuple):
    """Where an skb of a packet appears: `step` counts from 0. `relation`: how it came from `parent`, if it did."""

    step: int
    relation: str | None = None
    parent: Skb | None = None


class End(NamedTuple):
    """How an skb ended (DROPPED, ENDED or MERGED), and at which step.

    `parent` has its data if it was merged. `reason` of a drop: without SKB_DROP_REASON_; "" if the kernel gives none.
    `place`: who dropped or released it. That is the caller of the first function that does so or, if callers are not
    recorded, the function before that.
    """

    how: str
    step: int
    parent: Skb | None = None
    reason: str = ""
    place: str = ""


class Way:
    """The way of a packet, or as much of it as there was when it was given out.

    `steps` are in order of arrival; they are made when somebody asks for them. `skbs`: all that are seen to be of the
    packet, `ends`: those that have ended; an skb that is dropped counts as dropped even if it is seen after that.
    `cause`: why it was given out (ENDED if it is complete; UNSEEN, EVICTED, OPEN). `continues`: an earlier part was
    given out before. `transmissions`: how often TCP sent it; 0 if that was not seen.
    """

    __slots__ = (
        *("_steps", "cause", "continues", "ends", "functions", "living", "of", "packet", "records", "skbs"),
        "transmissions",
    )

    def __init__(self, packet: Packet, *, continues: bool) -> None:
        self.packet = packet
        self.records: list[Record] = []  # with the same index: their skbs, and their functions
        self.of: list[Skb] = []
        self.functions: list[Function] = []
        self._steps: list[Step] = []
        self.skbs: dict[Skb, Birth] = {}
        self.ends: dict[Skb, End] = {}
        self.living: set[Skb] = set()
        self.cause = OPEN
        self.continues = continues
        self.transmissions = 0

    @property
    def steps(self) -> list[Step]:
        if len(self._steps) != len(self.records):
            # Records that come from the kernel are plain tuples.
            self._steps = [
                Step(Record._make(record), skb, function)
                for record, skb, function in zip(self.records, self.of, self.functions, strict=True)
            ]
        return self._steps

    def by_skb(self) -> dict[Skb, list[Step]]:
        """Return the steps of each skb, in the order in which the skbs appear.

        What is done with another one below a function that has the packet is between the steps of the packet's own.
        """
        ways: dict[Skb, list[Step]] = {}
        current = self.of[0]
        for step in self.steps:
            current = step.skb if step.skb.instance != OTHER else current
            ways.setdefault(current, []).append(step)
        return ways

    @property
    def number(self) -> int:
        """0 for a packet that could not be followed: it is known by its address only."""
        return self.packet.number

    @property
    def name(self) -> str:
        return f"#{self.number}" if self.number else "#?"

    @property
    def first(self) -> int:
        """When it was seen first, in ns since boot."""
        return _time(self.records[0])

    @property
    def last(self) -> int:
        return _time(self.records[-1])

    @property
    def duration(self) -> int:
        """In ns."""
        return max(self.last - self.first, 0)

    @property
    def drops(self) -> list[tuple[Skb, End]]:
        return [(skb, end) for skb, end in self.ends.items() if end.how == DROPPED]

    @property
    def end(self) -> str:
        """DROPPED if any of its skbs was; MERGED if what was left of it was; else ENDED, or its `cause`."""
        hows = {end.how for end in self.ends.values()}
        if DROPPED in hows:
            return DROPPED
        if self.cause == ENDED and hows == {MERGED}:
            return MERGED
        return self.cause


def _time(record: Record) -> int:
    time: int = record[5]  # type: ignore[assignment]  # Packets sees to it that there is one
    return time


def drop_reason(function: Function) -> str:
    """Return why a function drops a packet, or what verdict of a BPF program does; "" if the kernel does not say."""
    return function.verdict or function.reason.removeprefix("SKB_DROP_REASON_")


def _place(way: Way, step: int) -> str:
    """Return who called the first of the functions that release an skb, the last of which is at this step."""
    skb, caller = way.of[step], way.functions[step].caller
    for number in range(step - 1, -1, -1):
        if way.of[number] is not skb:
            continue
        function = way.functions[number]
        if not _RELEASES.fullmatch(function.name):
            return caller or function.name
        caller = function.caller
    return caller


class _Site(NamedTuple):
    """What is known of where an event comes from. `ends` and `after`: see Names."""

    function: Function
    ends: bool
    after: bool
    says_more: bool


class _Told(NamedTuple):
    """Which skb an event is of, and what it says. `address`: that of an skb that is not followed; 0 for others.

    `says_more`: it is more than a step of an skb.
    """

    skb: Skb
    address: int = 0
    says_more: bool = False
    ended: bool = False
    relation: str | None = None
    parent: Skb | None = None
    transmission: int = 0


class Packets:
    """Groups records by packet: add() takes them in order, and returns the ways that are known to be over by then.

    A run that does not follow packets is grouped by the addresses of skbs, and by the functions that end them. Beyond
    `limit` steps the packets that were not seen for longest are `evicted`, and counted.
    """

    def __init__(
        self,
        schema: Schema,
        names: Names,
        numbers: Numbers | None = None,
        *,
        limit: int = STEPS_LIMIT,
        idle: int = IDLE,
        linger: int = LINGER,
    ) -> None:
        """`numbers` are those of the source. Raises PwruError if the records have no time."""
        if "time" not in schema.parts:
            raise PwruError("events without their times cannot be put together by packet: `timestamp` adds them")
        self._schema, self._names = schema, names
        self._limit, self._idle, self._linger = limit, idle, linger
        self._numbers = numbers or Numbers()
        self._follows = "follow" in schema.parts
        self._generation = names.generation
        self._sites = Memo(self._site)
        # What is not followed, by address. What releases an skb has it after its end.
        self._by_address: dict[bytes | int, _Told] = {}
        self._ended: dict[bytes | int, _Told] = {}
        self._told: dict[bytes | int, _Told] = {} if self._follows else self._by_address
        self._open: dict[Packet, Way] = {}
        self._over: dict[Packet, int] = {}  # those whose skbs have all ended, and when the last one did
        self._given_out: dict[Packet, None] = {}  # of late
        self._swept = 0
        self.held = 0  # steps
        self.begun = self.not_followed = self.evicted = 0  # packets; the second are those of the first without a number

    def add(self, records: Sequence[Record]) -> list[Way]:
        """Take records in order; return the ways that are over, in the order in which they ended."""
        if not records:
            return []
        if self._generation != self._names.generation:
            self._generation = self._names.generation
            self._sites.clear()
        sites, told_by, ways = self._sites, self._told, self._open
        for record in records:
            address, _, hit, _, follow, _, _ = record
            site = sites[hit]
            told = told_by.get(follow or address) or self._see(follow, address, site)
            skb = told.skb
            way = ways.get(skb.packet) or self._begin(skb.packet)
            if skb not in way.skbs:
                self._appear(way, told)
            way.records.append(record)
            way.of.append(skb)
            way.functions.append(site.function)
            if told.says_more or site.says_more:
                self._note(way, told, site)
        self.held += len(records)
        now = _time(records[-1])
        over = self._finish(now)
        if now - self._swept > self._idle // 4:
            over += self.sweep(now)
        if self.held > self._limit:
            over += self._evict()
        return over

    def sweep(self, now: int) -> list[Way]:
        """Return the ways that are over at `now` (ns since boot), and those that were not seen for long."""
        self._swept = now
        over = self._finish(now)
        unseen = [way for way in self._open.values() if way.last < now - self._idle]
        return over + [self._give_out(way, UNSEEN) for way in unseen]

    def drain(self) -> list[Way]:
        """Return all ways that are left, at the end of the records; in the order in which they began."""
        return [self._give_out(way, OPEN if way.living else ENDED) for way in list(self._open.values())]

    def _site(self, raw: bytes) -> _Site:
        hit = self._schema.hit(raw)
        names = self._names
        function, ends, after = names.function(hit), hit.addr in names.ends, hit.addr in names.after_ends
        return _Site(function, ends, after, ends or after or function.drops)

    def _see(self, follow: bytes, address: int, site: _Site) -> _Told:
        """Return what an event says of its packet; it is the first one to say so."""
        event = self._schema.follow(follow) if self._follows else None
        if event is None or not event.packet:
            return self._see_address(address, site)
        skb, parent = self._numbers.see(event), self._numbers.parent(event)
        says_more = bool(event.ended or event.relation or event.transmission)
        told = _Told(skb, 0, says_more, event.ended, event.relation, parent, event.transmission)
        if len(self._told) >= CACHE_LIMIT:
            self._told.clear()
        self._told[follow] = told
        return told

    def _see_address(self, address: int, site: _Site) -> _Told:
        """The same of one that is not followed; in a run that follows packets, it has no number."""
        told = self._by_address.get(address)
        if told is None and site.after:
            told = self._ended.get(address)
        if told is None:
            self.not_followed += self._follows
            packet = Packet(address, 0 if self._follows else self.begun + 1)
            told = self._by_address[address] = _Told(Skb(packet, 0), address)
        return told

    def _begin(self, packet: Packet) -> Way:
        way = self._open[packet] = Way(packet, continues=packet in self._given_out)
        self.begun += not way.continues
        return way

    def _appear(self, way: Way, told: _Told) -> None:
        skb = told.skb
        if skb.instance == OTHER:
            return
        told_of_birth = told.relation and told.relation != MERGED
        way.skbs[skb] = Birth(len(way.records), *((told.relation, told.parent) if told_of_birth else ()))
        if not told.ended:
            way.living.add(skb)
            self._over.pop(way.packet, None)

    def _note(self, way: Way, told: _Told, site: _Site) -> None:
        """Note what the last event of a packet says."""
        skb, step = told.skb, len(way.records) - 1
        way.transmissions = max(way.transmissions, told.transmission)
        if site.function.drops and skb not in way.ends:
            way.ends[skb] = End(DROPPED, step, None, drop_reason(site.function), _place(way, step))
        if told.relation == MERGED:
            way.ends.setdefault(skb, End(MERGED, step, told.parent))
        elif skb.instance == OTHER or not (told.ended or site.ends):
            return
        elif told.address:
            self._ended[told.address] = told
            self._by_address.pop(told.address, None)
        if skb not in way.ends:
            way.ends[skb] = End(ENDED, step, place=_place(way, step))
        way.living.discard(skb)
        if not way.living:
            self._over[way.packet] = way.last

    def _finish(self, now: int) -> list[Way]:
        over = []
        for packet, since in list(self._over.items()):
            if since > now - self._linger:
                break
            over.append(self._give_out(self._open[packet], ENDED))
        return over

    def _evict(self) -> list[Way]:
        """Make room, and more of it than is needed now."""
        evicted = []
        for way in sorted(self._open.values(), key=lambda way: way.last):
            if self.held <= self._limit * 7 // 8:
                break
            evicted.append(self._give_out(way, EVICTED if way.living else ENDED))
        self.evicted += sum(way.cause == EVICTED for way in evicted)
        return evicted

    def _give_out(self, way: Way, cause: str) -> Way:
        way.cause = cause
        del self._open[way.packet]
        self._over.pop(way.packet, None)
        self.held -= len(way.records)
        self._given_out.pop(way.packet, None)
        self._given_out[way.packet] = None
        if len(self._given_out) > ENDED_LIMIT:
            del self._given_out[next(iter(self._given_out))]
        for known in (self._by_address, self._ended):
            told = known.get(way.packet.id)
            if told and told.skb.packet is way.packet:
                del known[way.packet.id]
        return way
