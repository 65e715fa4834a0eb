"""Reports in Markdown: one of each kernel, written as a whole, from what `bench.measure` found in its guests."""

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.tables import markdown, middle, shown

Rows = dict[str, dict[str, list[Any]]]
COLUMNS = ("Go tool", "pwru", "pwru / Go tool", "pwru -w", "pwru -w / pwru", "empty", "loads", "n")
FLOORS = ("empty", "loads")
HEADING = """\
# {title}

Measured by `{command}` on {date}; [README.md](../README.md) says how.

"""
SUBJECT = """\
Linux {release}, 2 CPUs; Go tool {theirs}, pwru {ours}; bursts of {packets} packets. Load average of the host: \
{before:.1f} before, {after:.1f} after.

"""
INSTRUCTIONS = """\
## Instructions per hit

"""


class Heading(NamedTuple):
    """The command that made a report, and when."""

    command: str
    date: str

    def of(self, title: str) -> str:
        return HEADING.format(title=title, command=self.command, date=self.date)


def subject(measured: dict[str, Any], *, packets: int, load: tuple[float, float]) -> str:
    """Return the lines above a table: what ran where, and how busy the host was before and after."""
    versions = {name: measured[name] for name in ("release", "theirs", "ours")}
    return SUBJECT.format(**versions, packets=packets, before=load[0], after=load[1])


def with_ratios(rows: Rows) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Put the starts first, and after the time per hit how many times that of the empty program it is."""
    for label, by_tool in sorted(rows.items(), key=lambda row: not row[0].startswith("start →")):
        yield label, by_tool
        if label.startswith("ns per hit"):
            floor = statistics.median(rows["ns per hit, no match"]["empty"])
            tools = [tool for tool in by_tool if tool not in FLOORS]
            yield f"{label} / empty", {tool: [ns / floor for ns in by_tool[tool]] for tool in tools}


def table(rows: Rows) -> str:
    """Return a table of medians by label and tool, without columns that are empty."""
    cells = [(label, _cells(by_tool)) for label, by_tool in rows.items()]
    columns = [column for column in COLUMNS if any(values.get(column) for _, values in cells)]
    lines = [[label, *(values.get(column, "") for column in columns)] for label, values in cells]
    return markdown([["", *columns], *lines])


def _cells(by_tool: dict[str, list[Any]]) -> dict[str, str]:
    values = {tool: middle(each) for tool, each in by_tool.items()}
    counts = dict.fromkeys(str(len(each)) for each in by_tool.values())
    return {
        **{tool: shown(value) for tool, value in values.items()},
        **{f"{a} / {b}": _ratio(values.get(a), values.get(b)) for a, b in (("pwru", "Go tool"), ("pwru -w", "pwru"))},
        "n": ", ".join(counts),
    }


def _ratio(a: Any, b: Any) -> str:
    return f"{a / b:.3f}" if isinstance(a, float) and isinstance(b, float) and b else ""
