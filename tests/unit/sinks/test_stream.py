"""Output to a file, a device or a pipe: lines are written, or it is an error."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pwru.commands.options import Options
from pwru.errors import PwruError
from pwru.sinks.stream import Writer, writer

from .files import HEADER, names, open_file


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent/out", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(PwruError, match=f"--output-file: cannot write {re.escape(str(path))}: {reason}"):
            writer(Options(output_file=str(path)))


def test_it_is_appended_to_and_is_the_owners(path: Path) -> None:
    for text in ("one\n", "two\n"):
        file = open_file(path)
        file.write(text)
        file.close()
    assert path.read_text() == HEADER + "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("write", [lambda f: f.begin(HEADER), lambda f: f.write("one\n")])
def test_a_full_disk(write: Callable[[Writer], None]) -> None:
    full = writer(Options(output_file="/dev/full"))
    with pytest.raises(PwruError, match="cannot write to /dev/full: No space left on device"):
        write(full)
    full.close()


def test_a_reader_that_has_gone() -> None:
    """BrokenPipeError, upon which the command ends quietly."""
    reader, fd = os.pipe()
    os.close(reader)
    out = writer(Options())
    out.fd = fd
    with pytest.raises(BrokenPipeError):
        out.write("one\n")
    os.close(fd)


def test_what_cannot_be_full_is_not_renamed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = open_file(path, 10, max_count=1)
    for _ in range(10):
        file.write("one\n")
    file.close()
    assert os.read(reader, 1000).decode() == HEADER + "one\n" * 10
    assert names(path) == ["pipe"]
    os.close(reader)


def test_two_do_not_write_one_file(path: Path) -> None:
    first = open_file(path, 20)
    for _ in range(2):
        with pytest.raises(PwruError, match=f"another process writes to {re.escape(str(path))}; name another"):
            open_file(path)
        first.write("the next file is ours as well\n" * 2)
    first.close()
    open_file(path).close()


def test_two_may_write_to_a_device() -> None:
    files = [writer(Options(output_file="/dev/null")) for _ in range(2)]
    for file in files:
        file.write("one\n")
        file.close()
