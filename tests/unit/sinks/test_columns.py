"""The layout of columns on a terminal: what is cut down, and what goes to a further line."""

from __future__ import annotations

import pytest

from pwru.sinks.columns import FURTHER_LINE, lay_out

WIDTHS = {"SKB": 18, "CPU": 3, "PROCESS": 16, "NETNS": 10, "MARK/x": 8, "IFACE": 16, "PROTO": 6, "MTU": 5, "LEN": 5}
LEAST = {"PROCESS": 11, "MARK/x": 6, "IFACE": 8}
# The columns, a space after each, and 56 characters for TUPLE and FUNC; CALLER has 20.
ALL = sum(WIDTHS.values()) + len(WIDTHS) + 56


def lines(after: dict[str, str]) -> list[list[str]]:
    """Return the columns on each line."""
    rows: list[list[str]] = [[]]
    for name, separator in after.items():
        rows[-1].append(name)
        if separator == FURTHER_LINE:
            rows.append([])
    return rows


@pytest.mark.parametrize(("terminal", "caller"), [(0, False), (0, True), (ALL, False), (ALL + 20, True), (1000, True)])
def test_columns_that_fit(terminal: int, caller: bool) -> None:
    layout = lay_out(WIDTHS, terminal, caller=caller)
    assert layout.widths == WIDTHS
    assert layout.after == dict.fromkeys(WIDTHS, " ")
    assert (layout.tuple_most, layout.func_most) == (None, None)


@pytest.mark.parametrize(("terminal", "caller"), [(ALL - 1, False), (ALL + 19, True)])
def test_columns_that_are_cut_down(terminal: int, caller: bool) -> None:
    """One character is missing: IFACE is the last column that gets its room back."""
    layout = lay_out(WIDTHS, terminal, caller=caller)
    assert layout.widths == WIDTHS | {"IFACE": 15}
    assert layout.after == dict.fromkeys(WIDTHS, " ")
    assert (layout.tuple_most, layout.func_most) == (40, 20)


def test_columns_over_two_lines() -> None:
    layout = lay_out(WIDTHS, 80, caller=False)
    assert layout.widths == WIDTHS | LEAST
    assert lines(layout.after) == [list(WIDTHS), []]
    assert lay_out(WIDTHS, 82, caller=False).widths == WIDTHS | LEAST | {"PROCESS": 13}


@pytest.mark.parametrize("caller", [False, True])
@pytest.mark.parametrize("terminal", range(1, 200))
def test_any_terminal(terminal: int, caller: bool) -> None:
    """Every column is there, no line is wider than the terminal unless it is a single column, and no line is empty."""
    layout = lay_out(WIDTHS, terminal, caller=caller)
    assert list(layout.widths) == list(layout.after) == list(WIDTHS)
    assert all(LEAST.get(name, WIDTHS[name]) <= width <= WIDTHS[name] for name, width in layout.widths.items())
    *complete, last = lines(layout.after)
    for number, row in enumerate([*complete, last] if last else complete):
        assert row
        width = 4 * (number > 0) + sum(layout.widths[name] for name in row) + len(row) - 1
        assert width <= terminal or len(row) == 1


def test_a_terminal_that_is_narrower_than_a_column() -> None:
    """Each column has a line of its own."""
    layout = lay_out(WIDTHS, 1, caller=False)
    assert lines(layout.after) == [*([name] for name in WIDTHS), []]
    assert layout.widths == WIDTHS | LEAST
