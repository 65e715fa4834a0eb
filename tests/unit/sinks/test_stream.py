"""Output to a file, a device or a pipe: lines are written, or it is an error."""

from __future__ import annotations

import os
import re
import select
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.sinks.rotate import File
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
        with pytest.raises(PwruError, match=f"^`output_file`: cannot write {re.escape(str(path))}: {reason}$"):
            file_at(path)
    assert names(tmp_path / "file") == ["file", "loop"]


NOT_ROOT = """
import sys
from tests.unit.sinks.files import file_at
for path in sys.argv[1:]:
    try:
        file_at(path)
    except Exception as error:
        print(error)
"""


def test_a_file_that_is_somebody_elses() -> None:
    """Neither a file nor a folder that this user may not write to is found writable."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}" for name in ("file", "new")]
        Path(paths[0]).touch(0o444)
        os.chmod(folder, 0o555)
        command = [sys.executable, "-c", NOT_ROOT, *paths]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        os.chmod(folder, 0o755)
    assert done.stdout.splitlines() == [f"`output_file`: cannot write {path}: Permission denied" for path in paths]


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
        file.begin(HEADER)
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


@pytest.mark.parametrize("write", [lambda f: f.begin(HEADER), lambda f: f.write("one\n")])
def test_a_full_disk(write: Callable[[File], object]) -> None:
    full = file_at("/dev/full")
    full.open()
    with pytest.raises(PwruError, match="cannot write to /dev/full: No space left on device"):
        write(full)
    full.close()


def test_a_reader_that_has_gone() -> None:
    """BrokenPipeError, upon which the command ends quietly."""
    reader, fd = os.pipe()
    os.close(reader)
    out = Stream(fd)
    out.open()
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
