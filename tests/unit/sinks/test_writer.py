"""Streams take whole lines, and a trace that is to end does not wait long for a reader."""

from __future__ import annotations

import os
import socket
import time
import tty
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from pwru.sinks.stream import Stream

from .files import file_at


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[int, Stream]]:
    """The reading end of a pipe, and a stream to it that has been asked to end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stop, asked = os.pipe()
    os.write(asked, b"x")
    with closing(file_at(path)) as file:
        file.open()
        file.give_up_after(stop)
        yield reader, file
    for fd in (reader, stop, asked):
        os.close(fd)


def test_lines_that_nobody_takes_are_given_up(pipe: tuple[int, Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwru.sinks.stream.GRACE", 0.01)
    reader, stream = pipe
    text = "".join(f"{number:0{number % 300}}\n" for number in range(5000))
    given_up = stream.write(text)
    assert given_up > 600_000
    assert os.read(reader, 1 << 20).decode() == text[:-given_up]
    assert text[-given_up - 1] == "\n"


def test_who_is_too_slow_is_not_waited_for(pipe: tuple[int, Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes something all the time, yet the end comes; what follows is given up at once."""
    monkeypatch.setattr("pwru.sinks.stream.GRACE", 0.3)
    reader, stream = pipe
    os.set_blocking(reader, True)
    ended = False

    def read_slowly() -> None:
        while not ended:
            os.read(reader, 4096)
            time.sleep(0.03)

    reading = Thread(target=read_slowly)
    reading.start()
    began = time.monotonic()
    given_up = stream.write("a line of some length\n" * 50_000) // 22
    assert 0.3 <= time.monotonic() - began < 3
    assert 40_000 < given_up < 47_000  # a pipe holds 2978
    ended = True
    reading.join()


@pytest.fixture(params=["socket", "terminal"])
def other(request: pytest.FixtureRequest) -> Iterator[tuple[int, Stream]]:
    """The same for a socket and a terminal, non-blocking as another program may have left them."""
    if request.param == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    else:
        theirs, ours = os.openpty()
        tty.setraw(ours)
    os.set_blocking(ours, False)
    stop, asked = os.pipe()
    os.write(asked, b"x")
    stream = Stream(ours)
    stream.give_up_after(stop)
    stream.open()
    yield theirs, stream
    for fd in (ours, theirs, stop, asked):
        os.close(fd)


def test_no_other_reader_is_waited_for(other: tuple[int, Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwru.sinks.stream.GRACE", 0.01)
    assert 0 < other[1].write("a line of some length\n" * 50_000) < 50_000 * 22


def test_every_reader_gets_everything(other: tuple[int, Stream]) -> None:
    gets_everything(*other, "a line\n" * 20_000 + "x" * 10_000 + "\nanother\n")


def test_who_goes_on_reading_gets_everything(pipe: tuple[int, Stream]) -> None:
    """Also a line that is longer than what a pipe takes as a whole."""
    reader, stream = pipe
    os.set_blocking(reader, True)
    gets_everything(reader, stream, "a line\n" * 50_000 + "x" * 10_000 + "\nanother\n")


def gets_everything(reader: int, stream: Stream, text: str) -> None:
    got = bytearray()

    def read() -> None:
        while len(got) < len(text):
            got.extend(os.read(reader, 1000))

    reading = Thread(target=read)
    reading.start()
    assert stream.write(text) == 0
    reading.join()
    assert got.decode() == text
