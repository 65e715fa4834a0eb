"""Where lines go: whole ones only, and a trace that is to end does not wait for who does not read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from pwru.options import Options
from pwru.output.file import Writer
from pwru.output.file import writer as destination


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
    monkeypatch.setattr("pwru.output.file.GRACE", 0.01)
    reader, writer = pipe
    lines = [f"{number:0{number % 300}}\n" for number in range(5000)]
    given_up = writer.write("".join(lines))
    assert given_up > 4000
    assert os.read(reader, 1 << 20).decode() == "".join(lines[:-given_up])


def test_who_goes_on_reading_gets_everything(pipe: tuple[int, Writer]) -> None:
    """Also a line that is longer than what a pipe takes as a whole."""
    reader, writer = pipe
    os.set_blocking(reader, True)
    text = "a line\n" * 50_000 + "x" * 10_000 + "\nanother\n"
    got = bytearray()

    def read() -> None:
        while len(got) < len(text):
            got.extend(os.read(reader, 1000))

    reading = Thread(target=read)
    reading.start()
    assert writer.write(text) == 0
    reading.join()
    assert got.decode() == text
