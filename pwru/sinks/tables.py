"""Tables of text: columns as wide as what is in them, cut down to a terminal, and numbers that are read at a glance."""

from collections.abc import Sequence
from typing import NamedTuple

_BARS = "▁▂▃▄▅▆▇█"
_LEAST = 8  # characters: what a column that is cut keeps
_UNITS = ((10**9, "s"), (10**6, "ms"), (10**3, "µs"))


class Column(NamedTuple):
    """`right`: numbers. `may_be_cut`: it gives way if the table is wider than the terminal."""

    title: str
    right: bool = False
    may_be_cut: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table, the titles first. `width`: that of the terminal, 0 for any."""
    widths = [max(map(len, cells)) for cells in zip([column.title for column in columns], *rows, strict=True)]
    if width:
        _shrink(widths, columns, width)
    lines = []
    for row in ([column.title for column in columns], *rows):
        cells = [
            f"{cut(cell, room):{'>' if column.right else '<'}{room}}"
            for cell, room, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _shrink(widths: list[int], columns: Sequence[Column], width: int) -> None:
    """Take from the widest of the columns that may be cut, until all fit or none has anything left to give."""
    able = [number for number, column in enumerate(columns) if column.may_be_cut]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(able, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def cut(text: str, width: int) -> str:
    """Return text that has room in `width` characters; 0: any."""
    return text if not width or len(text) <= width else text[: width - 1] + "…"


def duration(ns: int) -> str:
    """Return a time with three digits: 870 ns, 12.3 µs, 4.56 ms, 125 s."""
    for size, unit in _UNITS:
        if ns >= size:
            value = ns / size
            return f"{value:.{max(0, 2 - (value >= 9.995) - (value >= 99.95))}f} {unit}"
    return f"{ns} ns"


def sparkline(counts: Sequence[int]) -> str:
    """Return a bar for each count, "·" for 0: a bar is never empty where there is something."""
    most = max(counts, default=0)
    return "".join(_BARS[(count * len(_BARS) - 1) // most] if count else "·" for count in counts)
