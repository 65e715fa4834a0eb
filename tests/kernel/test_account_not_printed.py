"""Events that are not printed because of the reader or the line limit are counted; all others are printed at once."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vmtest.udp import Udp

from .accounting import once_each
from .leftovers import PATIENCE, PROMPT, hits, wait_for
from .tracing import Piped, Start

pytestmark = pytest.mark.one_kernel


@pytest.fixture
def piped(tmp_path: Path) -> Callable[..., Piped]:
    return lambda *arguments: Piped(tmp_path, arguments)


def test_a_reader_that_pauses(piped: Callable[..., Piped], udp: Udp) -> None:
    """Traffic is not delayed, losses are counted, and only whole lines are printed.

    However much pwru writes to the pipe before it blocks, the ring buffer then holds 963 records.
    """
    count = 1000
    with piped("--ring-buffer-size=128K", *once_each()) as trace:
        udp.send(count)
        assert hits() == 3 * count
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(trace.read_to_the_end)
            assert trace.stop() == 0
            reading.result(PATIENCE)
    events, lost = trace.totals()
    assert len(trace.rows()) == events
    assert events > 962
    assert lost > 0
    assert events + lost == 3 * count


@pytest.mark.parametrize("strict", [False, True])
def test_ctrl_c_with_a_reader_that_has_stopped(strict: bool, piped: Callable[..., Piped], udp: Udp) -> None:
    """pwru ends without the reader and reports what it will miss; the pipe holds whole lines only."""
    count = 400
    with piped("--output-json", *["--strict"] * strict, *once_each()) as trace:
        udp.send(count)
        assert trace.stop() == (3 if strict else 0)
        trace.read_to_the_end()
    objects = trace.objects()
    assert len(objects) > 100
    account = trace.account()
    assert account["events"] == len(objects)
    assert account["lost"] == {"ring_buffer_full": 0, "ring_buffer_busy": 0, "probe_missed": 0}
    assert account["not_printed"] == 3 * count - len(objects) > 0


def test_ctrl_c_with_a_reader_that_is_slow(piped: Callable[..., Piped], udp: Udp) -> None:
    """It gets everything, because it takes it in time."""
    count = 400
    with piped(*once_each()) as trace:
        udp.send(count)
        trace.process.send_signal(signal.SIGINT)
        trace.read_to_the_end()
        assert trace.process.wait(PATIENCE) == 0
    assert len(trace.rows()) == 3 * count
    assert trace.totals() == (3 * count, 0)


@pytest.mark.one_kernel
def test_ctrl_c_with_a_reader_that_never_catches_up(piped: Callable[..., Piped], udp: Udp) -> None:
    """It has little time, though it goes on reading: what it does not get is counted, and it gets whole lines."""
    count = 4000
    with piped(*once_each()) as trace:
        udp.send(count)
        with ThreadPoolExecutor(1) as pool:

            def read_slowly() -> None:
                while some := trace.pipe.read(1000):
                    trace.got += some
                    time.sleep(0.01)

            reading = pool.submit(read_slowly)
            began = time.monotonic()
            assert trace.stop() == 0
            assert time.monotonic() - began < PROMPT
            reading.result(PATIENCE)
    events, _ = trace.totals()
    assert len(trace.rows()) == events
    assert 500 < events < 3 * count
    assert (
        f", 0 lost, {3 * count - events} not printed (whoever reads the output did not take them in time)" in trace.err
    )


@pytest.mark.parametrize("ring", ["1M", "4096"], ids=["room", "no-room"])
def test_what_comes_after_the_limit(pwru: Start, udp: Udp, ring: str) -> None:
    """Later events are not lost, even if the ring buffer had no room: the user got as many lines as requested."""
    count, limit = 20, 7
    flags = f"--ring-buffer-size={ring}", f"--output-limit-lines={limit}"
    with pwru("--strict", "--output-json", *flags, *once_each()) as trace:
        trace.process.send_signal(signal.SIGSTOP)
        udp.send(count)
        trace.process.send_signal(signal.SIGCONT)
        assert trace.process.wait(PATIENCE) == 0
    assert len(trace.objects()) == limit
    account = trace.account()
    assert (account["events"], account["not_printed"]) == (limit, 3 * count - limit)
    assert not any(account["lost"].values())


# --- a single event ---


def test_no_event_waits_for_the_next(piped: Callable[..., Piped], udp: Udp) -> None:
    """However many events arrive at once, and whatever pwru is doing then: nothing else will wake it.

    Some pauses are shorter than the time for which it polls before it sleeps, some are longer; and it does sleep.
    """
    delays = []
    with piped("--filter-func", "udp_rcv") as trace:
        printed = 1
        for number in range(100):
            burst = (1, 1, 2, 40)[number % 4]
            printed += burst
            if number % 20 == 0:
                wait_for(trace.sleeps)
            time.sleep(number % 20 / 1000)
            began = time.monotonic()
            udp.send(burst)
            trace.read_until(lambda: trace.got.count(b"\n") >= printed)  # noqa: B023  (called at once)
            delays.append(time.monotonic() - began)
        assert trace.stop() == 0
        trace.read_to_the_end()
    assert trace.totals() == (printed - 1, 0)
    assert len(trace.rows()) == printed - 1
    # The median, because an emulated machine may have been busy during the slowest.
    assert sorted(delays)[len(delays) // 2] < 0.1


# --- columns that are switched off ---


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("as_json", "wanted"),
    [(False, [(True, True), (True, False), (False, True)]), (True, [(True, True), (False, False)])],
)
def test_columns_that_are_not_wanted(as_json: bool, wanted: list[tuple[bool, bool]], pwru: Start, udp: Udp) -> None:
    """The other columns are the same as in a trace of the same packet that has all of them."""
    with contextlib.ExitStack() as stack:
        traces = [
            stack.enter_context(
                pwru(
                    f"--output-meta={meta}",
                    f"--output-tuple={addresses}",
                    f"--output-json={as_json}",
                    "--output-limit-lines=3",
                    *once_each(),
                )
            )
            for meta, addresses in wanted
        ]
        udp.send(1)
        for trace in traces:
            assert trace.process.wait(PATIENCE) == 0
    for trace, (meta, addresses) in zip(traces, wanted, strict=True):
        without = ["netns", "mark", "iface", "proto", "mtu", "len"] * (not meta) + ["tuple"] * (not addresses)
        if as_json:
            everything = traces[0].objects()
            assert trace.objects() == [{k: v for k, v in line.items() if k not in without} for line in everything]
        else:
            columns = (slice(0, 3), slice(3, 9 if meta else 3), slice(9, 10 if addresses else 9), slice(10, 11))
            words = [line.split() for line in traces[0].out.splitlines()]
            expected = [[word for column in columns for word in line[column]] for line in words]
            assert [line.split() for line in trace.out.splitlines()] == expected
