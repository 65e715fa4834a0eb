"""How the columns of text are laid out on a terminal: cut down, and over several lines of a row, if they do not fit."""

from typing import NamedTuple

# A narrow terminal cuts these columns down to this; values stay whole. TUPLE and FUNC, and CALLER, are to have room
# for so many characters, and TUPLE and FUNC grow no further.
_LEAST = {"PROCESS": 11, "MARK/x": 6, "IFACE": 8}
_TUPLE_AND_FUNC, _CALLER = 56, 20
_TUPLE_MOST, _FUNC_MOST = 40, 20
FURTHER_LINE = "\n    "


class Layout(NamedTuple):
    """The columns before TUPLE and FUNC, in their order.

    `widths` are in characters; `after` is what follows a column: a space, or FURTHER_LINE after the last one of a line.
    `tuple_most` and `func_most` are how wide these two grow, None for any width.
    """

    widths: dict[str, int]
    after: dict[str, str]
    tuple_most: int | None = None
    func_most: int | None = None


def lay_out(widths: dict[str, int], terminal: int, *, caller: bool) -> Layout:
    """Fit columns of these widths, TUPLE, FUNC and perhaps CALLER into a terminal of this width; 0: no limit."""
    after = dict.fromkeys(widths, " ")
    rest = _TUPLE_AND_FUNC + _CALLER * caller
    if not terminal or sum(widths.values()) + len(widths) + rest <= terminal:
        return Layout(widths, after)
    least = {name: _LEAST.get(name, width) for name, width in widths.items()}
    lines = _fold({**least, "": rest}, terminal)
    after |= {line[-1]: FURTHER_LINE for line in lines[:-1]}
    # What the first line has to spare goes back to the columns that were cut down.
    spare = terminal + 1 - sum({**least, "": rest}[name] + 1 for name in lines[0])
    for name in [name for name in _LEAST if name in lines[0]]:
        more = min(spare, widths[name] - least[name])
        least[name] += more
        spare -= more
    return Layout(least, after, _TUPLE_MOST, _FUNC_MOST)


def _fold(widths: dict[str, int], terminal: int) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    at = 0
    for name, width in widths.items():
        if lines[-1] and at + width > terminal:
            lines.append([])
            at = len(FURTHER_LINE) - 1
        at += width + 1
        lines[-1].append(name)
    return lines
