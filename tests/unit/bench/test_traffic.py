"""The search for the highest rate."""

import pytest

from bench.traffic import highest


@pytest.mark.parametrize("limit", [60, 100, 777, 5000])
def test_just_below_the_limit(limit: float) -> None:
    assert 0.9 * limit <= highest(lambda rate: rate <= limit, start=50) <= limit


def test_a_limit_below_the_start() -> None:
    assert highest(lambda rate: rate <= 11, start=50) == pytest.approx(9.375)


def test_nothing_holds() -> None:
    assert highest(lambda _: False, start=50) == 0


def test_one_failure_is_a_hiccup() -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= 400 and tried.count(rate) == 2

    assert highest(holds, start=50) == 400
