"""Filters in the kernel of this machine; tests/kernel/test_filter.py runs the same tests in guests."""

from __future__ import annotations

from tests.unit.filter.verdicts import Verdicts


class TestVerdicts(Verdicts):
    pass
