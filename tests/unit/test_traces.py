"""What pwru prints of recordings of real kernels, byte for byte: tests/traces.

If the output is to change, run `python -m tests.traces update`, and look at the difference.
"""

from __future__ import annotations

import pytest

from tests.traces import EXPECTED, HERE, SUFFIX, cases, output

MAX_SIZE = 100_000
CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_as_expected(name: str) -> None:
    assert output(CASES[name]) == CASES[name].expected.read_text()


def test_no_file_without_a_use() -> None:
    assert {path.name for path in EXPECTED.iterdir()} == set(CASES)
    recordings = {path.name.removesuffix(SUFFIX): path.stat().st_size for path in HERE.glob(f"*{SUFFIX}")}
    assert recordings.keys() == {case.recording for case in CASES.values()}
    assert max(recordings.values()) < MAX_SIZE
