"""What tunnels carry, in this machine's kernel; tests/kernel/test_filter_tunnels.py runs the same tests in guests."""

from __future__ import annotations

from tests.unit.filter.tunnels import Tunnels


class TestTunnels(Tunnels):
    pass
