"""Headers found twice, in this machine's kernel; tests/kernel/test_filter.py runs the same test in guests."""

from __future__ import annotations

from tests.unit.filter.headers import Headers


class TestHeaders(Headers):
    pass
