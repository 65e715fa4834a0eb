"""Tables that fit a terminal, and numbers in them."""

from __future__ import annotations

import pytest

from pwru.sinks.tables import Column, duration, sparkline, table

COLUMNS = (Column("N", right=True), Column("WHAT", may_be_cut=True), Column("WHERE", may_be_cut=True))


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert table(COLUMNS, [("1", "a", "b"), ("123", "something", "")], 0) == [
        "  N  WHAT       WHERE",
        "  1  a          b",
        "123  something",
    ]


def test_the_widest_columns_give_way() -> None:
    rows = [("12345678901", "short", "somewhere else entirely, far away")]
    for width in (80, 60, 50, 40, 35):
        made = table(COLUMNS, rows, width)
        assert max(map(len, made)) <= max(width, 11 + 2 + 5 + 2 + 8)
        assert made[1].startswith("12345678901  short")
    assert table(COLUMNS, rows, 40)[1].endswith("…")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (9_994, "9.99 µs"),
        (9_995, "10.0 µs"),
        (99_949, "99.9 µs"),
        (99_950, "100 µs"),
        (1_234_567, "1.23 ms"),
        (10**9, "1.00 s"),
        (125 * 10**9, "125 s"),
        (123_456 * 10**9, "123456 s"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_bars() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "··"
    assert sparkline([0, 1, 4, 8, 1000]) == "·▁▁▁█"
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
