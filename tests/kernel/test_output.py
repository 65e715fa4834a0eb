"""What the flags add to a line, on a real packet: each would fail if its flag did nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

import pytest

from .conftest import Network, Trace

Start = Callable[..., Trace]

pytestmark = pytest.mark.three_kernels

WAY = "ip_rcv|ip_local_deliver|icmp_rcv"


def test_timestamps(network: Network, pwru: Start) -> None:
    """Of the same events in all modes, traced at the same time; a tracer takes its time a little after another."""
    modes = ("current", "relative", "absolute")
    with ExitStack() as stack:
        traces = {
            mode: stack.enter_context(
                pwru("--output-json", "--timestamp", mode, "--filter-func", WAY, "--output-limit-lines=6", "icmp")
            )
            for mode in modes
        }
        text = stack.enter_context(
            pwru("--timestamp", "absolute", "--filter-func", WAY, "--output-limit-lines=6", "icmp")
        )
        monotonic, day = time.monotonic_ns(), time.time()
        network.ping()
        for trace in (*traces.values(), text):
            trace.wait_until_it_ends()
        later, later_day = time.monotonic_ns(), time.time()
    current, relative, absolute = ([event["time"] for event in traces[mode].objects()] for mode in modes)
    assert monotonic < current[0] < current[-1] < later
    assert current == sorted(current)
    packets = [event["skb"] for event in traces["relative"].objects()]
    assert [at == 0 for at in relative] == [skb not in packets[:number] for number, skb in enumerate(packets)]
    assert sum(relative) < later - monotonic
    days = [datetime.fromisoformat(at).timestamp() for at in absolute]
    days += [datetime.fromisoformat(line.split()[0]).timestamp() for line in text.out.splitlines()[1:]]
    assert len(days) == 12
    assert all(day - 0.002 < at < later_day for at in days)
