"""Signals that ask for the end, and a process that is as it was afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from pwru.commands.stop import Stop
from pwru.errors import PwruError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OTHERS = (signal.SIGHUP, signal.SIGQUIT)


def handler(_number: int, _frame: FrameType | None) -> None:
    """The handler of a program that uses pwru as a library."""


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """nohup, and shells without job control for what is in the background, have some signals ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in OTHERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def wakeup() -> Iterator[int]:
    """A program with handlers and a wakeup descriptor of its own."""
    handlers = [signal.signal(signal.SIGINT, handler), signal.signal(signal.SIGTERM, signal.SIG_IGN)]
    reader, fd = os.pipe2(os.O_NONBLOCK)
    before = signal.set_wakeup_fd(fd)
    yield fd
    signal.set_wakeup_fd(before)
    for number, own in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, own)
    os.close(reader)
    os.close(fd)


def test_handlers_and_wakeup_fd_are_restored(wakeup: int) -> None:
    with Stop():
        assert [signal.getsignal(number) for number in SIGNALS] != [handler, signal.SIG_IGN]
    assert [signal.getsignal(number) for number in SIGNALS] == [handler, signal.SIG_IGN]
    assert signal.set_wakeup_fd(wakeup) == wakeup


def test_they_are_restored_after_an_error(wakeup: int) -> None:
    with contextlib.suppress(PwruError), Stop():
        raise PwruError
    assert [signal.getsignal(number) for number in SIGNALS] == [handler, signal.SIG_IGN]
    assert signal.set_wakeup_fd(wakeup) == wakeup


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        with Stop():
            assert os.listdir("/proc/self/fd") != before
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("number", SIGNALS + OTHERS)
def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    with Stop() as stop:
        stop.check()
        assert not stop.asked
        assert not select.select([stop.fd], [], [], 0)[0]
        signal.raise_signal(number)
        assert stop.asked
        assert stop.status == (128 + number if number in OTHERS else 0)
        assert select.select([stop.fd], [], [], 0)[0]
        with pytest.raises(PwruError, match="interrupted before everything was attached"):
            stop.check()


@pytest.mark.parametrize("number", OTHERS)
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    with Stop() as stop:
        signal.raise_signal(number)
        assert not stop.asked
    assert signal.signal(number, before) == signal.SIG_IGN


def test_sighup_may_ask_for_a_new_file() -> None:
    with Stop() as stop:
        stop.reopens = True
        assert not stop.reopen_asked()
        signal.raise_signal(signal.SIGHUP)
        assert select.select([stop.reopen_fd], [], [], 0)[0]
        assert not select.select([stop.fd], [], [], 0)[0]
        assert stop.reopen_asked()
        assert not stop.reopen_asked()
        assert not select.select([stop.reopen_fd], [], [], 0)[0]
        assert not stop.asked


def test_sighup_does_not_hide_the_end() -> None:
    """Both at once: the handlers run in whatever order."""
    with Stop() as stop:
        stop.reopens = True
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})
        assert select.select([stop.fd], [], [], 0)[0]
        assert stop.asked == signal.SIGTERM


def test_a_second_signal_ends_the_process() -> None:
    """But a terminal that is closed sends several SIGHUP, which ask once."""
    code = "import signal; from pwru.commands.stop import Stop\nwith Stop():\n"
    for name in ("SIGINT", "SIGHUP", "SIGHUP", "SIGTERM"):
        code += f"  signal.raise_signal(signal.{name})\n  print('{name}', flush=True)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["SIGINT", "SIGHUP", "SIGHUP"], "")
    assert done.returncode == 128 + signal.SIGTERM
