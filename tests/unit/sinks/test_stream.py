"""Output to a file, a device or a pipe: lines are written, or it is an error."""

from __future__ import annotations

import os
import re
import resource
import select
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.sinks.stream import Stream

from .files import HEADER, file_at, names, open_file


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is known before anything is attached."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path / "absent/out", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "file/out", "Not a directory"),
        (tmp_path / "loop", "Too many levels of symbolic links"),
        (tmp_path / ("x" * 300), "File name too long"),
        ("", "No such file or directory"),
        ("/proc/no-such", "No such file or directory"),
    ):
        typed = re.escape(str(path) or "''")
        with pytest.raises(PwruError, match=f"^`output_file`: cannot write {typed}: {reason}$"):
            file_at(path)
    assert names(tmp_path / "file") == ["file", "loop"]


def test_a_file_that_is_somebody_elses() -> None:
    """Neither a file nor a folder that this user may not write to is found writable."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}" for name in ("file", "new")]
        Path(paths[0]).touch(0o444)
        os.chmod(folder, 0o555)
        if user == 0:
            os.seteuid(65534)  # and no process of somebody else's, who may not be allowed to see the checkout
        try:
            for path in paths:
                with pytest.raises(PwruError, match=f"^`output_file`: cannot write {path}: Permission denied$"):
                    file_at(path)
        finally:
            os.seteuid(user)
        os.chmod(folder, 0o755)


def test_a_file_is_created_by_open(path: Path) -> None:
    """A start that fails before leaves none."""
    file = file_at(path)
    assert names(path) == []
    file.close()
    file.open()
    assert names(path) == ["trace.log"]
    file.close()
    file.close()


def test_a_file_leaves_no_descriptor(path: Path) -> None:
    """Whether it was opened or not, and whatever it was."""
    before = descriptors()
    for _ in range(2):
        file_at(path).close()
        file = file_at(path)
        file.open()
        file.begin(HEADER.encode())
        assert descriptors() != before
        file.close()
        assert descriptors() == before
    with pytest.raises(PwruError):
        file_at(path.parent)
    assert descriptors() == before


def test_a_pipe_is_opened_once(tmp_path: Path) -> None:
    """Its reader would take a second time for the next writer's, after the end of the first."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = file_at(path)
    assert not select.select([reader], [], [], 0)[0]  # no end of file
    file.open()
    file.write("one\n")
    assert os.read(reader, 100) == b"one\n"
    file.close()
    os.close(reader)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_it_is_appended_to_and_is_the_owners(path: Path) -> None:
    for text in ("one\n", "two\n"):
        file = open_file(path)
        file.write(text)
        file.close()
    assert path.read_text() == HEADER + "one\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk() -> None:
    full = file_at("/dev/full")
    full.open()
    with pytest.raises(PwruError, match="cannot write to /dev/full: No space left on device"):
        full.begin(HEADER.encode())
    assert full.write("one\n") == 4
    full.close()


@pytest.mark.parametrize("append", [True, False])
def test_no_half_line_on_a_full_disk(path: Path, append: bool) -> None:
    """The file ends with the last whole line, and what did not fit is given up."""
    path.write_text("what was there before\n")
    flags = os.O_WRONLY | (os.O_APPEND if append else 0)
    fd = os.open(path, flags)
    os.lseek(fd, 0, os.SEEK_END)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = Stream(fd)
    out.open()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
        assert out.write("one\ntwo\nthree\nfour and so on\n") == 15
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(out.failure) == "cannot write to standard output: File too large"
    assert out.write("five\n") == 5
    os.close(fd)
    assert path.read_text() == "what was there before\none\ntwo\nthree\n"


def test_a_signal_that_does_not_ask_for_the_end() -> None:
    """It leaves the descriptor readable for a moment: the reader still has all the time it takes."""
    reader, fd = os.pipe()
    stop, asks = os.pipe()
    out = Stream(fd)
    out.open()
    out.give_up_after(stop)
    filler = "x" * 4095 + "\n"
    for _ in range(16):
        assert out.write(filler) == 0

    def later() -> None:
        os.write(asks, b"x")
        os.read(stop, 1)
        os.read(reader, 1 << 16)

    thread = threading.Timer(0.05, later)
    thread.start()
    assert out.write("one\n") == 0
    thread.join()
    for each in (reader, fd, stop, asks):
        os.close(each)


def test_a_reader_that_has_gone() -> None:
    """What it did not get is given up: a pipe's, and a terminal's that was closed."""
    for reader, fd in (os.pipe(), os.openpty()):
        out = Stream(fd)
        out.open()
        assert out.write("one\n") == 0
        os.close(reader)
        assert out.write("two\nthree\n") == 10
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
            file_at(path)
        first.write("the next file is ours as well\n" * 2)
    first.close()
    open_file(path).close()


def test_two_may_write_to_a_device() -> None:
    files = [file_at("/dev/null") for _ in range(2)]
    for file in files:
        file.open()
        file.write("one\n")
        file.close()
