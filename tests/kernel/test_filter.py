"""The packet filter in this kernel says what libpcap says: tests/unit/filter/test_verdicts.py with fewer pairs.

The kernel's verifier and JIT are what differs; where there is no bpf_rdonly_cast(), the other strategy is tested alone.
"""

from __future__ import annotations

import os

import pytest

from tests.unit.filter import harness
from tests.unit.filter.test_verdicts import (  # noqa: F401  (fixtures and tests, collected here too)
    cast,
    image,
    seed,
    test_expressions,
    test_long_filter,
    test_memory_is_zero_at_first,
    test_programs,
)


@pytest.fixture(scope="module")
def pairs() -> int:
    return int(os.environ.get("PWRU_FILTER_PAIRS", "6000"))


def test_nothing_is_skipped_for_the_harness() -> None:
    assert harness.OBJECT.exists(), "make -C tests/bpf"
    assert not harness.permitted()
