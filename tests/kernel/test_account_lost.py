"""Events that the ring buffer has no room for: every hit is a line or counted as lost, and a loss is reported."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest

from vmtest.udp import PORT, Udp

from .accounting import Programs, once_each, statistics
from .backends import BACKENDS
from .tracing import Start

pytestmark = pytest.mark.two_kernels

each_kind = pytest.mark.parametrize("backend", dict.fromkeys((BACKENDS[0], "kprobe", "tracepoint")))


@each_kind
@pytest.mark.parametrize(("size", "first", "then"), [("4096", 100, 500), ("50K", 700, 100)])
def test_a_small_ring_buffer(*, backend: str, size: str, first: int, then: int, pwru: Start, udp: Udp) -> None:
    """It is filled while nobody reads; everything after that is printed or lost."""
    record = 144 if backend == "tracepoint" else 136
    fit = ((1 << 16 if size == "50K" else 4096) - 1) // record
    # One hit per packet. Except at tracepoints no other packets are seen, so every run is a match.
    arguments = (
        ("--filter-func", "netif_rx", f"udp dst port {PORT}")
        if backend == "tracepoint"
        else ("--filter-func", "udp_rcv")
    )
    programs = Programs()
    with statistics(), pwru("--backend", backend, "--ring-buffer-size", size, *arguments) as trace:
        trace.process.send_signal(signal.SIGSTOP)
        udp.send(first)
        trace.process.send_signal(signal.SIGCONT)
        trace.wait_for(lambda: len(trace.out.splitlines()) == 1 + fit)
        udp.send(then)
        runs = programs.sum("run_cnt")
        assert trace.stop() == 0
    events, lost = trace.totals()
    assert len(trace.rows()) == events
    assert events + lost == first + then
    assert backend == "tracepoint" or runs == first + then
    assert first - fit <= lost <= first - fit + then
    assert f"{lost} lost (the ring buffer of {64 if size == '50K' else 4}K was full" in trace.err
    assert "locked" not in trace.err  # all packets come one after the other, in one CPU


@pytest.mark.parametrize("size", ["4096", None])
def test_four_senders_on_two_cpus(size: str | None, pwru: Start, udp: Udp) -> None:
    senders, each = 4, 250
    with pwru(*[f"--ring-buffer-size={size}"] * bool(size), *once_each()) as trace:
        if size:
            trace.process.send_signal(signal.SIGSTOP)  # so that it is certain to overflow
            udp.flood(senders, each)
            trace.process.send_signal(signal.SIGCONT)
        udp.flood(senders, each)
        assert trace.stop() == 0
    events, lost = trace.totals()
    rows = trace.rows()
    assert len(rows) == events
    assert events + lost == 3 * senders * each * (2 if size else 1)
    seen = Counter((re.split("[:-]", row["tuple"])[1], row["func"]) for row in rows)
    if size:
        assert lost > 3 * senders * each - 31
    else:
        assert "was full" not in trace.err
        # A breakpoint waits only briefly for a CPU that is writing an event, and an emulated CPU may be suspended.
        assert BACKENDS[0] == "kprobe" or not lost
        assert len(seen) == 3 * senders
        assert lost or set(seen.values()) == {each}
        assert {row["cpu"] for row in rows} == {"0", "1"}


def test_strict_and_json(pwru: Start, udp: Udp) -> None:
    """The account agrees with the lines, and the status is 3 only if something was lost.

    With this payload, records fill the ring to its last byte, which the kernel never uses.
    """
    count = 50
    for size, payload, fit in (("4096", 0, 30), ("4096", 104, 15), ("1M", 0, 3 * count)):
        flags = f"--ring-buffer-size={size}", *[f"--output-payload={payload}"] * bool(payload)
        with pwru("--strict", "--output-json", *flags, *once_each()) as trace:
            trace.process.send_signal(signal.SIGSTOP)
            udp.send(count)
            trace.process.send_signal(signal.SIGCONT)
            lost = 3 * count - fit
            assert trace.stop() == (3 if lost else 0)
        assert len(trace.objects()) == fit
        assert trace.account() == {
            "events": fit,
            "packets": len({event["skb"] for event in trace.objects()}),
            "packets_exact": False,
            "lost": {"ring_buffer_full": lost, "ring_buffer_busy": 0, "probe_missed": 0},
            "not_printed": 0,
        }
