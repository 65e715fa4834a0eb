"""Percentiles of durations: exact for few, within the stated error for many."""

from __future__ import annotations

import random

import pytest

from pwru.record.histogram import ERROR, EXACT, Histogram


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


def nearest_rank(values: list[int], percent: float) -> int:
    ranked = sorted(values)
    return next(value for number, value in enumerate(ranked, 1) if number * 100 >= percent * len(ranked))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, EXACT])
def test_few_are_exact(count: int) -> None:
    values = [random.Random(count).randrange(10**9) for _ in range(count)]
    of = histogram(values)
    assert of.exact
    for percent in (0, 1, 50, 90, 99, 99.9, 100):
        assert of.percentile(percent) == nearest_rank(values, percent)
    assert (of.least, of.most, of.count, of.total) == (min(values), max(values), count, sum(values))


@pytest.mark.parametrize("seed", range(20))
def test_many_are_within_the_error(seed: int) -> None:
    chance = random.Random(seed)
    top = chance.choice([3, 40, 1000, 10**6, 10**12])
    values = [int(chance.random() ** 3 * top) for _ in range(EXACT + 1 + chance.randrange(5000))]
    of = histogram(values)
    assert not of.exact
    for percent in (1, 50, 90, 99, 99.9):
        true = nearest_rank(values, percent)
        assert abs(of.percentile(percent) - true) <= ERROR * true + 1
    assert of.percentile(100) == of.most == max(values)
    assert of.least == min(values)


def test_none() -> None:
    assert Histogram().percentile(50) == 0
    assert list(Histogram().bars(4)) == [0] * 4


def test_bars() -> None:
    assert list(histogram([7]).bars(4)) == [1, 0, 0, 0]
    assert list(histogram([0, 1_000, 1_000_000]).bars(3)) == [1, 1, 1]
    assert sum(histogram(list(range(10_000))).bars(8)) == 10_000


def test_memory_is_bounded() -> None:
    of = Histogram()
    for power in range(64):
        for value in range(1 << power, (1 << power) + 5000 if power > 13 else 2 << power, 7):
            of.add(value)
    assert sum(of.bars(8)) == of.count
