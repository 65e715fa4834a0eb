"""`pwru --diff`: where packets of two recordings, or two kinds of packets of one, take different ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from pwru.commands import messages
from pwru.errors import PwruError, printable
from pwru.filter.packet import Filter
from pwru.record.diff import Group, Parting, Taken, partings
from pwru.record.packets import DROPPED, Packets
from pwru.record.summary import PATIENCE
from pwru.replay.source import STDIN, Replay
from pwru.replay.wanted import Wanted
from pwru.sinks.tables import Column, cut, duration, table
from pwru.sinks.terminal import terminal

if TYPE_CHECKING:
    from pwru.commands.options import Options

_WAYS = 5  # that are shown in text
_VALUES = 3  # of each difference


class Side(NamedTuple):
    """Half of what is compared: a recording, and which of its packets; "" for all."""

    path: str
    filter: str

    @property
    def name(self) -> str:
        return printable(f"{self.path}: {self.filter}" if self.filter else self.path)


def diff(options: Options, say: Callable[[str], None]) -> None:
    """Print how the ways of bad packets part from those of good ones.

    `options.diff` is two recordings, or one and two packet filters. Raises PwruError if there is nothing to compare.
    """
    path, *others = options.diff
    sides = [Side(path, ""), Side(others[0], "")] if len(others) == 1 else [Side(path, other) for other in others]
    if [side.path for side in sides].count(STDIN) > 1:
        raise PwruError("standard input can be read only once: name a file")
    good, bad = (_group(side, say) for side in sides)
    found = partings(good, bad)
    if options.json:
        import json

        text = json.dumps(_members(sides, (good, bad), found)) + "\n"
    else:
        width = terminal(1, "never").width  # what is no terminal gets all of each line
        text = "".join(f"{cut(line, width)}\n" for line in _lines(sides, (good, bad), found, width))
    messages.report(text)


def _group(side: Side, say: Callable[[str], None]) -> Group:
    test = None
    if side.filter:
        from pwru.replay.packets import packet_test

        test = packet_test(Filter(side.filter))
    with closing(Replay([side.path])) as source:
        group = Group(source.schema)
        packets = Packets(source.schema, source.names, source.numbers, idle=PATIENCE)
        for records in source.read(Wanted(filter=Filter(side.filter), follow=True), test):
            group.add(packets.add(records))
        group.add(packets.drain())
        if source.damage:
            say(str(source.damage))
    if not group.packets:
        raise PwruError(f"{side.name}: there are no packets to compare")
    return group


def _lines(sides: Sequence[Side], groups: tuple[Group, Group], found: Sequence[Parting], width: int) -> Iterator[str]:
    for title, side, group in zip(("GOOD", "BAD"), sides, groups, strict=True):
        ways = f"{len(group.ways)} way{'s' * (len(group.ways) != 1)}" + (" or more" if group.others else "")
        yield f"{title:<5} {side.name}: {_packets(group.packets)}, {ways}"
    for parting in found[:_WAYS]:
        yield ""
        yield from _parting(parting, width)
    if len(found) > _WAYS:
        yield ""
        yield f"and {len(found) - _WAYS} more ways of BAD"


def _parting(parting: Parting, width: int) -> Iterator[str]:
    good, bad = parting.good, parting.bad
    who = f"{_packets(bad.times.count)} of BAD (such as {bad.example})"
    like = f"{_packets(good.times.count)} of GOOD (such as {good.example})"
    steps = f"{parting.common} step{'s' * (parting.common != 1)}"
    if parting.same:
        yield f"{who} took the same way as {like}: {steps}"
    elif parting.last:
        yield f"{who} went with {like} for {steps}, up to {parting.last}; then"
    else:
        yield f"{who} went another way from the beginning than {like}:"
    if not parting.same:
        yield f"  GOOD  {parting.good_next or '(no more)'}{_end(good)}"
        yield f"  BAD   {parting.bad_next or '(no more)'}{_end(bad)}"
    if parting.differences:
        columns = (Column("DIFFERS"), Column("FROM", may_be_cut=True), Column("GOOD"), Column("BAD"))
        cells = [(each.what, each.function, _few(each.good), _few(each.bad)) for each in parting.differences]
        yield from (f"  {line}" for line in table(columns, cells, max(width - 2, 0)))
    if parting.slowest:
        function, usual, slow = parting.slowest
        yield f"  Most time was lost before {function}: {duration(slow)}, not {duration(usual)} (medians)"


def _end(taken: Taken) -> str:
    """Return how packets that took a way were dropped, if they were."""
    if taken.end != DROPPED:
        return ""
    return f" … dropped: {taken.reason or 'no reason'}" + (f" in {taken.place}" if taken.place else "")


def _packets(count: int) -> str:
    return f"{count} packet{'s' * (count != 1)}"


def _few(values: Sequence[str]) -> str:
    return ", ".join(values[:_VALUES]) + ", …" * (len(values) > _VALUES)


def _members(sides: Sequence[Side], groups: tuple[Group, Group], found: Sequence[Parting]) -> dict[str, object]:
    about = [
        {"file": side.path, "filter": side.filter or None, "packets": group.packets, "ways": len(group.ways)}
        for side, group in zip(sides, groups, strict=True)
    ]
    return {"good": about[0], "bad": about[1], "partings": [_parting_members(parting) for parting in found]}


def _parting_members(parting: Parting) -> dict[str, object]:
    slowest = None
    if parting.slowest:
        function, usual, slow = parting.slowest
        slowest = {"func": function, "good": usual, "bad": slow}
    return {
        "same": parting.same,
        "common": parting.common,
        "last": parting.last or None,
        "good": _taken_members(parting.good, parting.good_next),
        "bad": _taken_members(parting.bad, parting.bad_next),
        "differences": [
            {"what": each.what, "func": each.function, "good": each.good, "bad": each.bad}
            for each in parting.differences
        ],
        "slowest": slowest,
    }


def _taken_members(taken: Taken, following: str) -> dict[str, object]:
    return {
        "packets": taken.times.count,
        "example": taken.example,
        "end": taken.end,
        "reason": taken.reason or None,
        "place": taken.place or None,
        "next": following or None,
        "functions": taken.functions,
    }
