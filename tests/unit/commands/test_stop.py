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


def handler(_number: int, _frame: FrameType | None) -> None:
    """The handler of a program that uses pwru as a library."""


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


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    with Stop() as stop:
        stop.check()
        assert not stop.asked
        assert not select.select([stop.fd], [], [], 0)[0]
        signal.raise_signal(number)
        assert stop.asked
        assert select.select([stop.fd], [], [], 0)[0]
        with pytest.raises(PwruError, match="interrupted before everything was attached"):
            stop.check()


def test_a_second_signal_ends_the_process() -> None:
    code = "import signal; from pwru.commands.stop import Stop\nwith Stop():\n"
    code += "  signal.raise_signal(signal.SIGINT)\n  print('one', flush=True)\n  signal.raise_signal(signal.SIGTERM)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("one\n", "", 128 + signal.SIGTERM)
