"""Payload in fragments, in this machine's kernel; tests/kernel/test_filter_payload.py runs the same tests in guests."""

from __future__ import annotations

from tests.unit.filter.fragments import Fragments


class TestFragments(Fragments):
    pass
