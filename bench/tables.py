"""Tables for people: Markdown, medians, and numbers with few digits."""

import statistics
from typing import Any


def markdown(lines: list[list[str]]) -> str:
    """Return a table, aligned so that it is also readable as text."""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |\n"
        for line in [lines[0], rule, *lines[1:]]
    )


def middle(values: list[Any]) -> float | str:
    """Return the median of numbers, or the last of texts."""
    return values[-1] if isinstance(values[-1], str) else float(statistics.median(values))


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"
