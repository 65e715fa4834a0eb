"""Shorthands in this machine's kernel; tests/kernel/test_filter.py runs the same tests in guests."""

from __future__ import annotations

from tests.unit.filter.shorthands import Shorthands


class TestShorthands(Shorthands):
    pass
