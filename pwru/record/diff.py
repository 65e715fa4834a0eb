"""Where the ways of two groups of packets part: the first function that only one of them passes, and what they
differed in until then."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from pwru.record.histogram import Histogram
from pwru.record.packets import Way
from pwru.record.parts import FlowTuple, Meta
from pwru.record.schema import Schema

WAYS = 200  # of a group that are told apart, at most
_VALUES = 16  # that packets of one way have at one step, at most; more are no difference

Functions = tuple[tuple[str, ...], ...]  # that a packet passes: those of its first skb, then those of each other one
Values = dict[str, set[str]]
Raw = tuple[bytes, tuple[int, ...]]  # the section PACKET of a record, and the fields that the run asked for


class Step:
    """A function that packets of one way pass: what they are like there, and the time since the function before."""

    __slots__ = ("raw", "times")

    def __init__(self) -> None:
        self.raw: dict[Raw, None] = {}
        self.times = Histogram()


class Taken:
    """A way that packets took. `example` is what the first of them is called; `end` how it ended, as in `Way.end`.

    `reason` and `place`: see record.packets.End. `steps` are those of each skb, one for each of `functions`.
    """

    def __init__(self, functions: Functions, way: Way) -> None:
        self.functions = functions
        self.example, self.end = way.name, way.end
        dropped = next((end for _, end in way.drops), None)
        self.reason, self.place = (dropped.reason, dropped.place) if dropped else ("", "")
        self.times = Histogram()
        self.steps = [[Step() for _ in lane] for lane in functions]


class Group:
    """Packets by their ways. `others` took ways beyond WAYS."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.packets = self.others = 0
        self.ways: dict[Functions, Taken] = {}

    def add(self, ways: Iterable[Way]) -> None:
        for way in ways:
            if way.continues:
                continue
            lanes: dict[int, list[int]] = {}  # the numbers of the steps of each skb
            for number, skb in enumerate(way.of):
                lanes.setdefault(skb.instance, []).append(number)
            functions = tuple(tuple(way.functions[number].name for number in lane) for lane in lanes.values())
            self.packets += 1
            taken = self.ways.get(functions)
            if taken is None:
                if len(self.ways) >= WAYS:
                    self.others += 1
                    continue
                taken = self.ways[functions] = Taken(functions, way)
            taken.times.add(way.duration)
            for steps, lane in zip(taken.steps, lanes.values(), strict=True):
                self._look(way, steps, lane)

    def _look(self, way: Way, steps: list[Step], lane: list[int]) -> None:
        before: Any = way.records[lane[0]][5]
        for step, number in zip(steps, lane, strict=True):
            _, _, _, packet, _, time, details = way.records[number]
            if len(step.raw) <= _VALUES:
                words = self.schema.details(details)["values"] if self.schema.fields else ()
                step.raw[packet, words] = None
            now: Any = time
            step.times.add(max(now - before, 0))
            before = now

    def values(self, step: Step) -> Values:
        """Return what packets of one way have at a step, by the name of the value."""
        found: Values = {}
        for packet, words in step.raw:
            pairs = [*_packet_values(self.schema.packet(packet))]
            for of in {field.of for field in self.schema.fields}:
                pairs += [(field.name, str(n)) for field, n in self.schema.values({"values": words}, of) or ()]
            for what, value in pairs:
                found.setdefault(what, set()).add(value)
        return found if len(step.raw) <= _VALUES else {}

    def by_count(self) -> list[Taken]:
        return sorted(self.ways.values(), key=lambda taken: -taken.times.count)


class Difference(NamedTuple):
    """What no packet of the one has in common with any of the other, and the first function where it is so."""

    what: str
    function: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


class Parting(NamedTuple):
    """A way of bad packets beside the good one that is like it for longest.

    Both passed `common` functions, of which `last` is the last one, "" if there is none. `good_next` and `bad_next`
    came then; "" for no more. All are "" if the ways are the same. `slowest`: the function of both before which the bad
    packets took most time beyond that of the good ones, at least twice as much, and both medians, in ns.
    """

    good: Taken
    bad: Taken
    common: int
    last: str
    good_next: str
    bad_next: str
    differences: list[Difference]
    slowest: tuple[str, int, int] | None

    @property
    def same(self) -> bool:
        return self.good.functions == self.bad.functions


def partings(good: Group, bad: Group) -> list[Parting]:
    """Return how each way of the bad packets parts from those of the good ones; what most packets took comes first.

    What good packets did as well is left out, unless there is nothing else.
    """
    new = [taken for taken in bad.by_count() if taken.functions not in good.ways] or bad.by_count()[:1]
    return [_parting(good, bad, taken) for taken in new if good.ways]


def _parting(good: Group, bad: Group, taken: Taken) -> Parting:
    like = max(good.by_count(), key=lambda way: _common(way.functions, taken.functions))  # of several, the first
    lane, step = _part(like.functions, taken.functions)
    common = _common(like.functions, taken.functions)
    pairs = list(islice(zip(_flat(like), _flat(taken), strict=False), common))
    differences: dict[str, Difference] = {}
    slowest = None
    for (function, theirs), (_, ours) in pairs:
        values = good.values(theirs), bad.values(ours)
        for difference in _differences(function, *values):
            differences.setdefault(difference.what, difference)
        medians = theirs.times.percentile(50), ours.times.percentile(50)
        if medians[1] > 2 * medians[0] and (not slowest or medians[1] - medians[0] > slowest[2] - slowest[1]):
            slowest = (function, *medians)
    return Parting(
        like,
        taken,
        common,
        pairs[-1][0][0] if pairs else "",
        _next(like.functions, lane, step),
        _next(taken.functions, lane, step),
        list(differences.values()),
        slowest,
    )


def _flat(taken: Taken) -> Iterator[tuple[str, Step]]:
    for lane, steps in zip(taken.functions, taken.steps, strict=True):
        yield from zip(lane, steps, strict=True)


def _part(one: Functions, other: Functions) -> tuple[int, int]:
    """Return of which skb, and at which of its steps, the ways are different first."""
    for number, (lane, lane_of_other) in enumerate(zip(one, other, strict=False)):
        if lane != lane_of_other:
            pairs = enumerate(zip(lane, lane_of_other, strict=False))
            differs = (step for step, (function, other_function) in pairs if function != other_function)
            return number, next(differs, min(len(lane), len(lane_of_other)))
    return min(len(one), len(other)), 0


def _common(one: Functions, other: Functions) -> int:
    """Return how many functions there are before that."""
    lane, step = _part(one, other)
    return sum(map(len, one[:lane])) + step


def _next(functions: Functions, lane: int, step: int) -> str:
    return functions[lane][step] if lane < len(functions) and step < len(functions[lane]) else ""


def _differences(function: str, good: Values, bad: Values) -> Iterator[Difference]:
    """Yield what good and bad packets have no value in common of."""
    for what, values in bad.items():
        theirs = good.get(what, set())
        if theirs and values and not theirs & values:
            yield Difference(what, function, tuple(sorted(theirs)), tuple(sorted(values)))


def _packet_values(parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a packet is like, by name: what text has in columns."""
    meta: Meta | None = parts.get("meta")
    if meta:
        yield "netns", str(meta.netns)
        yield "mark", f"{meta.mark:#x}"
        yield "iface", f"{meta.ifname}:{meta.ifindex}" if meta.ifname else str(meta.ifindex)
        yield "proto", f"0x{meta.protocol:04x}"
        yield "mtu", str(meta.mtu)
        yield "len", str(meta.len)
    for name, prefix in (("tuple", ""), ("tunnel", "tunnel ")):
        of: FlowTuple | None = parts.get(name)
        if of:
            yield f"{prefix}saddr", of.saddr
            yield f"{prefix}daddr", of.daddr
            if of.sport is not None:
                yield f"{prefix}sport", str(of.sport)
                yield f"{prefix}dport", str(of.dport)
            yield f"{prefix}protocol", str(of.protocol)
            yield f"{prefix}flags", f"{of.flags:#x}"
    if "cb" in parts:
        yield "cb", str(parts["cb"])
