"""What the packets of a trace have in common: where they are dropped, which ways they take, and how long that takes.

All of it is bounded, whatever comes: what is beyond a limit is counted together.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pwru.record.follow import OTHER
from pwru.record.histogram import Histogram
from pwru.record.living import Lives, Living, Place
from pwru.record.names import Names
from pwru.record.packets import EVICTED, IDLE, OPEN, UNSEEN, End, Way
from pwru.record.parts import Meta
from pwru.record.schema import Schema
from pwru.record.stage_times import Functions, StageTimes

WAYS, DROPS, SPANS, WAITING = 1000, 1000, 4096, 1000  # that are told apart, at most
LANDMARKS = 3  # functions that tell a way from others, at most
# For how long a packet may rest, in ns, before it is taken for one that has no end.
PATIENCE = 60 * IDLE

_RELEASES = re.compile(
    r"(tracepoint:)?_*(napi_|dev_)?(kfree_skb|consume_(stateless_)?skb|sk_skb_reason_drop|skb_(release|free))"
)


class Drop(NamedTuple):
    """Where skbs are dropped: see record.packets.End. `process` is a name without a PID: processes come and go.

    `netns` and `iface` are 0 and "" if they are unknown.
    """

    reason: str
    function: str
    place: str
    netns: int
    iface: str
    process: str


class Taken:
    """A way that packets took, and how it ended: OPEN if it has not, UNSEEN if that was not seen.

    `example` is what the first of these packets is called, and `drop` where that was dropped.
    """

    __slots__ = ("drop", "end", "example", "functions", "times")

    def __init__(self, functions: Functions, end: str, example: str, drop: Drop | None) -> None:
        self.functions = functions
        self.end = end
        self.example = example
        self.drop = drop
        self.times = Histogram()


class Waiting(NamedTuple):
    """A packet that has not ended: what it is called, in which function it was seen last, and when (ns since boot)."""

    name: str
    place: str
    seen: int
    skbs: Sequence[Place] = ()


class Summary:
    """Counts packets by their ways, in ns.

    `stages`: the times that skbs stay in a stage. `spans`: those between two functions that an skb passes one after the
    other. A packet `continues` that had
    been taken for one without an end: its way was counted before.
    """

    def __init__(self, schema: Schema, names: Names, lives: Lives) -> None:
        """`lives`: see record.living."""
        self._schema = schema
        self._living = Living(schema, names, lives)
        self.patience = PATIENCE if names.sees_ends else IDLE
        self.first = self.last = 0  # event, in ns since boot
        # Told by whoever groups the packets: the time, how many were seen and given up, and how many events were lost.
        self.now = self.begun = self.evicted = self.lost = 0
        self.packets = self.dropped = self.retransmitted = self.continues = 0
        self.drops: dict[Drop, int] = {}
        self.other_drops = 0
        self.ways: dict[tuple[Functions, str], Taken] = {}
        self.other_ways = Histogram()
        self.stages = StageTimes()
        self.spans: dict[tuple[str, str], Histogram] = {}
        self.other_spans = Histogram()
        self._waiting: dict[int, Waiting] = {}
        self.other_waiting = 0

    def add(self, ways: Iterable[Way]) -> None:
        for way in ways:
            self.first = min(self.first or way.first, way.first)
            self.last = max(self.last, way.last)
            functions = self._pass(way)
            drops = [self._drop(way, end) for _, end in way.drops]
            for drop in drops:
                self._count(drop)
            self._waiting.pop(_key(way), None)
            end = self._wait(way) if way.end in (OPEN, UNSEEN, EVICTED) else way.end
            self.dropped += bool(drops)
            self.retransmitted += way.transmissions > 1
            if way.continues:
                self.continues += 1
                continue
            self.packets += 1
            taken = self.ways.get((functions, end))
            if taken is None and len(self.ways) < WAYS:
                taken = self.ways[functions, end] = Taken(functions, end, way.name, drops[0] if drops else None)
            (taken.times if taken else self.other_ways).add(way.duration)

    @property
    def open(self) -> int:
        """How many packets have not ended, as far as is known."""
        return self.begun - self.packets + len(self.waiting) + self.other_waiting

    @property
    def waiting(self) -> list[Waiting]:
        """The packets that have not ended; who was not seen for longest comes first."""
        living = [waiting for waiting in self._waiting.values() if self._living.any(waiting.skbs)]
        return sorted(living, key=lambda waiting: waiting.seen)

    def _pass(self, way: Way) -> Functions:
        """Take the times of the steps of a way; return the functions that each skb passes."""
        lanes: dict[int, tuple[list[str], list[int]]] = {}
        last: tuple[str, int] | None = None
        spans, own = self.spans, way.of[0].instance
        for record, skb, function in zip(way.records, way.of, way.functions, strict=True):
            name: str = function.name
            time: int = record[5]  # type: ignore[assignment]  # Packets demands that records have times
            own = skb.instance if skb.instance != OTHER else own  # as in Way.by_skb()
            lane = lanes.get(own)
            if lane is None:
                lane = lanes[own] = [], []
                came = last  # another skb begins where the packet is
            else:
                came = lane[0][-1], lane[1][-1]
            lane[0].append(name)
            lane[1].append(time)
            if came is not None:
                times = spans.get((came[0], name)) or self._span(came[0], name)
                times.add(max(time - came[1], 0))  # the clocks of CPUs may differ a little
            last = name, time
        functions = tuple(tuple(names) for names, _ in lanes.values())
        self.stages.count(way, functions, [times for _, times in lanes.values()])
        return functions

    def _span(self, one: str, other: str) -> Histogram:
        if len(self.spans) >= SPANS:
            return self.other_spans
        times = self.spans[one, other] = Histogram()
        return times

    def _drop(self, way: Way, end: End) -> Drop:
        _, task, _, packet, *_ = way.records[end.step]
        meta: Meta | None = self._schema.packet(packet).get("meta")
        name, _, _ = way.functions[end.step].name.partition("(")
        iface = f"{meta.ifname}:{meta.ifindex}" if meta and meta.ifname else ""
        netns = meta.netns if meta else 0
        return Drop(end.reason, name.strip(), end.place, netns, iface, self._schema.task(task).comm)

    def _count(self, drop: Drop) -> None:
        if drop in self.drops or len(self.drops) < DROPS:
            self.drops[drop] = self.drops.get(drop, 0) + 1
        else:
            self.other_drops += 1

    def _wait(self, way: Way) -> str:
        """Note whether a packet whose end was not seen lives; return what is to be said of its end."""
        places = self._living.places(way)
        if not self._living.any(places):
            return UNSEEN
        if len(self._waiting) >= WAITING:
            self.other_waiting += 1
        else:
            self._waiting[_key(way)] = Waiting(way.name, way.functions[-1].name, way.last, places)
        return EVICTED if way.cause == EVICTED else OPEN


def _key(way: Way) -> int:
    return way.number or -way.packet.id  # of one that is not followed


def landmarks(ways: Collection[Taken]) -> list[list[str]]:
    """Return for each way where it is seen first and last, and between them what tells it from the others.

    These are functions that few of the ways have. What releases an skb in the end tells nothing.
    """
    have = Counter(name for way in ways for name in {name for lane in way.functions for name in lane})
    found = []
    for way in ways:
        passed = list(dict.fromkeys(name for lane in way.functions for name in lane))
        while len(passed) > 1 and _RELEASES.match(passed[-1]):
            passed.pop()
        first, *inner = passed
        last = [inner.pop()] if inner else []
        common = max(have[name] for name in passed)
        rare = sorted((name for name in inner if have[name] < common), key=have.__getitem__)[:LANDMARKS]
        found.append([first, *sorted(rare, key=inner.index), *last])
    return found
