"""A summary as text: five tables that fit a terminal, the most telling rows of each first."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pwru.record.histogram import ERROR, Histogram
from pwru.record.packets import DROPPED, ENDED, EVICTED, OPEN, UNSEEN
from pwru.record.summary import Drop, Summary, Taken, landmarks
from pwru.sinks.tables import Column, cut, duration, sparkline, table

ROWS = 20  # of a table, at most
_FEWEST = 2  # of a table on a terminal that has no room
_BARS = 8
_WIDE = 150  # characters: a way has its place in a row, after what takes _BESIDE
_BESIDE, _INDENT = 70, "    "
_NOT_ENDED = {UNSEEN: "no end seen", OPEN: "not ended", EVICTED: "given up"}


class Section(NamedTuple):
    """A table, and how many rows there were."""

    title: str
    lines: Sequence[str]
    more: int

    def text(self) -> list[str]:
        return ["", self.title, *self.lines, *([f"and {self.more} more"] if self.more else [])]


def lines(summary: Summary, width: int, rows: int = ROWS, *, spans: bool = True) -> list[str]:
    """Return the lines of all tables that have something to say, for a terminal of this width; 0: any.

    Without `spans` the table of times between functions is left out.
    """
    sections: list[Callable[[Summary, int, int], Section | None]]
    sections = [_drops, _ways, _stages, *[_spans] * spans, _waiting]
    made = [section for make in sections if (section := make(summary, width, rows))]
    text = [cut(line, width) for line in _headline(summary)]
    return text + [cut(line, width) for section in made for line in section.text()]


def fitting(summary: Summary, width: int, height: int) -> list[str]:
    """Return as much of it as a terminal has room for: fewer rows, and then without what stages tell as well."""
    text: list[str] = []
    for spans in (True, False):

        def height_with(rows: int, *, spans: bool = spans) -> int:
            return len(lines(summary, width, rows, spans=spans))

        too_many = bisect_right(range(ROWS + 1), height, lo=_FEWEST, key=height_with)
        text = lines(summary, width, max(too_many - 1, _FEWEST), spans=spans)
        if len(text) <= height:
            break
    return text[:height]


def _headline(summary: Summary) -> list[str]:
    seconds = duration(summary.last - summary.first)
    counts = [f"{summary.begun} packet{'s' * (summary.begun != 1)} in {seconds}", f"{summary.dropped} dropped"]
    if summary.retransmitted:
        counts.append(f"{summary.retransmitted} retransmitted by TCP")
    if summary.open:
        counts.append(f"{summary.open} on their way")
    text = [", ".join(counts)]
    if summary.lost:
        text.append(f"{summary.lost} events were lost: counts are too low, and some ways lack functions")
    if summary.evicted:
        text.append(f"{summary.evicted} packets were given up for want of room: what came of them is not known")
    return text


def _drops(summary: Summary, width: int, rows: int) -> Section | None:
    if not summary.drops:
        return None
    columns = (
        *(Column("COUNT", right=True), Column("REASON", may_be_cut=True), Column("IN", may_be_cut=True)),
        *(Column("IFACE"), Column("NETNS"), Column("PROCESS", may_be_cut=True)),
    )
    drops = sorted(summary.drops.items(), key=lambda item: -item[1])
    cells = [
        (str(count), reason(drop), drop.place or "-", drop.iface or "-", str(drop.netns or "-"), drop.process)
        for drop, count in drops[:rows]
    ]
    return Section("DROPS", table(columns, cells, width), len(drops) - len(cells) + summary.other_drops)


def reason(drop: Drop) -> str:
    """Return the reason of a drop; what drops, if the kernel gives none."""
    return short(drop.reason or drop.function)


def short(name: str) -> str:
    """Return a name without what all names of its kind have."""
    return name.removeprefix("tracepoint:").replace("SKB_DROP_REASON_", "", 1)


_TIMES = tuple(Column(title, right=True) for title in ("P50", "P99", "MAX"))


def _times(times: Histogram) -> tuple[str, ...]:
    spread = sparkline(times.bars(_BARS)) if times.count >= _BARS else ""
    return (*(duration(times.percentile(percent)) for percent in (50, 99, 100)), spread)


def _ways(summary: Summary, width: int, rows: int) -> Section | None:
    if not summary.ways:
        return None
    counted = summary.packets
    ways = sorted(summary.ways.values(), key=lambda way: -way.times.count)
    shown = ways[:rows]
    beside = not width or width >= _WIDE
    room = width and width - (_BESIDE if beside else len(_INDENT))
    texts = [_way(way, names, room) for way, names in zip(shown, landmarks(shown), strict=True)]
    columns = (
        *(Column("COUNT", right=True), Column("SHARE", right=True), *_TIMES, Column("SPREAD"), Column("PACKET")),
        *((Column("WAY", may_be_cut=True),) if beside else ()),
    )
    cells = [
        (
            str(way.times.count),
            f"{100 * way.times.count / counted:.1f}%",
            *_times(way.times),
            way.example,
            *((text,) if beside else ()),
        )
        for way, text in zip(shown, texts, strict=True)
    ]
    made = table(columns, cells, width)
    if not beside:
        made = [
            made[0],
            *(line for row, text in zip(made[1:], texts, strict=True) for line in (row, f"{_INDENT}{text}")),
        ]
    title = f"WAYS{_exactness(way.times for way in ways)}"
    more = len(ways) - len(shown)
    if summary.other_ways.count:
        made.append(f"{summary.other_ways.count} packets took other ways")
    return Section(title, made, more)


def _way(way: Taken, names: Sequence[str], room: int) -> str:
    """Return a way in few words: where it begins, what tells it from others, where it ends, and how.

    If that is more than `room` characters, what is in the middle goes first; 0: there is room for all.
    """
    end = ""
    if way.drop:
        end = f", dropped: {reason(way.drop)}"
    elif way.end not in (ENDED, DROPPED):
        end = f", {_NOT_ENDED.get(way.end, way.end)}"
    count = sum(map(len, way.functions))
    end += f" ({count} step{'s' * (count != 1)})"
    shown = [short(name) for name in names]
    while room and len(" … ".join(shown) + end) > room and len(shown) > 1:
        del shown[-2 if len(shown) > 2 else 0]
    return " … ".join(shown) + end


def _stages(summary: Summary, width: int, rows: int) -> Section | None:
    if not summary.stages:
        return None
    stages = sorted(summary.stages.items(), key=lambda item: -item[1].total)
    total = sum(times.total for _, times in stages)
    columns = (
        *(Column("COUNT", right=True), Column("SHARE", right=True), *_TIMES, Column("SPREAD")),
        Column("STAGE", may_be_cut=True),
    )
    cells = [
        (str(times.count), f"{100 * times.total / (total or 1):.1f}%", *_times(times), f"{stage} {detail}".rstrip())
        for (stage, detail), times in stages[:rows]
    ]
    title = f"STAGES{_exactness(times for _, times in stages)}"
    return Section(title, table(columns, cells, width), len(stages) - len(cells))


def _spans(summary: Summary, width: int, rows: int) -> Section | None:
    if not summary.spans:
        return None
    spans = sorted(summary.spans.items(), key=lambda item: -item[1].total)
    total = sum(times.total for _, times in spans) + summary.other_spans.total
    columns = (
        *(Column("COUNT", right=True), Column("SHARE", right=True), *_TIMES, Column("SPREAD")),
        *(Column("FROM", may_be_cut=True), Column("TO", may_be_cut=True)),
    )
    cells = [
        (str(times.count), f"{100 * times.total / (total or 1):.1f}%", *_times(times), *map(short, names))
        for names, times in spans[:rows]
    ]
    title = f"WHERE THE TIME GOES{_exactness(times for _, times in spans)}"
    return Section(title, table(columns, cells, width), len(spans) - len(cells))


def _waiting(summary: Summary, width: int, rows: int) -> Section | None:
    waiting = summary.waiting
    if not waiting:
        return None
    columns = (Column("PACKET"), Column("NOT SEEN FOR", right=True), Column("LAST IN", may_be_cut=True))
    cells = [(name, duration(max(summary.now - seen, 0)), place) for name, place, seen, _ in waiting[:rows]]
    more = len(waiting) - len(cells) + summary.other_waiting
    return Section("STILL ON THEIR WAY", table(columns, cells, width), more)


def _exactness(times: Iterable[Histogram]) -> str:
    """Say how exact percentiles are, if they are not."""
    return "" if all(each.exact for each in times) else f" (P50 and P99 of many: within {100 * ERROR:.1f} %)"
