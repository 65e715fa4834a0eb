"""Where lines go: whole ones only, and a trace that is to end does not wait for who does not read."""

from __future__ import annotations

import os
import socket
import tty
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from pwru.commands.options import Options
from pwru.sinks.stream import Writer
from pwru.sinks.stream import writer as destination


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[int, Writer]]:
    """The reading end, and a writer to it that has been asked to end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    stop, asked = os.pipe()
    os.write(asked, b"x")
    with closing(destination(Options(output_file=str(path)))) as writer:
        writer.give_up_after(stop)
        yield reader, writer
    for fd in (reader, stop, asked):
        os.close(fd)


def test_lines_that_nobody_takes_are_given_up(pipe: tuple[int, Writer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwru.sinks.stream.GRACE", 0.01)
    reader, writer = pipe
    lines = [f"{number:0{number % 300}}\n" for number in range(5000)]
    given_up = writer.write("".join(lines))
    assert given_up > 4000
    assert os.read(reader, 1 << 20).decode() == "".join(lines[:-given_up])


@pytest.fixture(params=["socket", "terminal"])
def other(request: pytest.FixtureRequest) -> Iterator[tuple[int, Writer]]:
    """The same of what is no pipe, and as another program may have left it: non-blocking."""
    if request.param == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    else:
        theirs, ours = os.openpty()
        tty.setraw(ours)
    os.set_blocking(ours, False)
    stop, asked = os.pipe()
    os.write(asked, b"x")
    writer = Writer()
    writer.fd = ours
    writer._watch()
    writer.give_up_after(stop)
    yield theirs, writer
    for fd in (ours, theirs, stop, asked):
        os.close(fd)


def test_no_other_reader_is_waited_for(other: tuple[int, Writer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwru.sinks.stream.GRACE", 0.01)
    assert 0 < other[1].write("a line of some length\n" * 50_000) < 50_000


def test_every_reader_gets_everything(other: tuple[int, Writer]) -> None:
    gets_everything(*other, "a line\n" * 20_000 + "x" * 10_000 + "\nanother\n")


def test_who_goes_on_reading_gets_everything(pipe: tuple[int, Writer]) -> None:
    """Also a line that is longer than what a pipe takes as a whole."""
    reader, writer = pipe
    os.set_blocking(reader, True)
    gets_everything(reader, writer, "a line\n" * 50_000 + "x" * 10_000 + "\nanother\n")


def gets_everything(reader: int, writer: Writer, text: str) -> None:
    got = bytearray()

    def read() -> None:
        while len(got) < len(text):
            got.extend(os.read(reader, 1000))

    reading = Thread(target=read)
    reading.start()
    assert writer.write(text) == 0
    reading.join()
    assert got.decode() == text
