"""A full file is renamed, and no line is lost, split or written twice."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

import pytest

from pwru.sinks.rotate import Backups, File

from .files import BACKUP, HEADER, backups, names, open_file


def test_a_full_file_is_renamed(path: Path) -> None:
    before = time.time()
    file = open_file(path, 20)
    for number in range(5):
        file.write(f"line {number}\n")  # the header and two lines take 19 bytes
    file.close()
    first, second = backups(path)
    assert first.read_text() == HEADER + "line 0\nline 1\n"
    assert second.read_text() == HEADER + "line 2\nline 3\n"
    assert path.read_text() == HEADER + "line 4\n"
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in (first, second, path))
    assert BACKUP.fullmatch(first.name)
    said = time.strptime(first.name[6:-8] + " UTC", "%Y-%m-%dT%H-%M-%S %Z")
    assert abs(time.mktime(said) - time.mktime(time.gmtime(before))) < 60


def test_a_file_may_be_full_to_the_last_byte(path: Path) -> None:
    file = open_file(path, 19)
    file.write("line 0\n")
    file.write("line 1\n")
    assert names(path) == ["trace.log"]
    file.write("line 2\n")
    file.close()
    assert len(names(path)) == 2


def test_what_was_there_before_counts(path: Path) -> None:
    path.write_text("x" * 19 + "\n")
    file = open_file(path, 20)
    file.write("one\n")
    file.close()
    (backup,) = backups(path)
    assert backup.read_text() == "x" * 19 + "\n"
    assert path.read_text() == HEADER + "one\n"


def test_no_line_is_split_or_lost(path: Path) -> None:
    """Lines are written by the hundred, which a file has no room for, and some are longer than a file."""
    lines = [f"{number} {'x' * (number % 50)}{'y' * 100 * (number % 97 == 0)}\n" for number in range(1000)]
    file = open_file(path, 100)
    for start in range(0, 1000, 100):
        file.write("".join(lines[start : start + 100]))
    file.close()
    found = []
    for each in [*backups(path), path]:
        header, *rest = each.read_text().splitlines(keepends=True)
        assert header == HEADER
        assert rest
        assert each.stat().st_size <= 100 or len(rest) == 1
        found += rest
    assert found == lines


def test_what_is_written_at_once_stays_together(path: Path) -> None:
    file = open_file(path, 30)
    for _ in range(3):
        file.write("event\n stack\n")
    file.close()
    assert [each.read_text() for each in [*backups(path), path]] == [HEADER + "event\n stack\n"] * 3


def test_without_a_header(path: Path) -> None:
    file = File(str(path), 10, Backups(str(path)))
    file.open()
    file.begin(b"")
    for _ in range(3):
        file.write('{"a":1}\n')
    file.close()
    assert [each.read_text() for each in [*backups(path), path]] == ['{"a":1}\n'] * 3


def test_backups_of_the_same_moment_do_not_replace_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_582_934_399_999_000_000)  # a stopped clock may also go back
    (path.parent / "trace-2020-02-29T00-00-00.000.log.gz").touch()
    file = open_file(path, 5)
    for number in range(3):
        file.write(f"{number}\n")
    file.close()
    assert names(path) == [
        "trace-2020-02-28T23-59-59.999.log",
        "trace-2020-02-29T00-00-00.000.log.gz",
        "trace-2020-02-29T00-00-00.001.log",
        "trace.log",
    ]


def test_names_are_in_the_order_of_time_though_clocks_go_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(path, 7)
    seen = []
    for number in range(4):
        monkeypatch.setattr(time, "time_ns", lambda back=number: (1_582_934_399 - back) * 10**9)
        file.write(f"{number}\n")
        for backup in backups(path):  # else it would collide with the next
            seen.append(backup.name)
            backup.unlink()
    file.close()
    assert seen == [f"trace-2020-02-28T23-59-58.00{n}.log" for n in range(3)]


@pytest.mark.parametrize(
    ("name", "pattern"), [("trace", r"trace-2[\dT.-]{22}"), (".trace", r"\.trace-2.*"), ("a.b.c", r"a\.b-2.*\.c")]
)
def test_names(name: str, pattern: str, tmp_path: Path) -> None:
    file = open_file(tmp_path / name, 5)
    file.write("1\n")
    file.write("2\n")
    file.close()
    (backup,) = backups(tmp_path / name)
    assert re.fullmatch(pattern, backup.name)


def test_a_symbolic_link_stays_one(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to("disk/data.log")
    file = open_file(path, 5)
    file.write("1\n")
    file.write("2\n")
    file.close()
    assert path.is_symlink()
    assert path.read_text() == HEADER + "2\n"
    assert len(names(tmp_path / "disk/data.log")) == 2


def test_standard_output_by_its_name(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    file = open_file(Path(f"/proc/self/fd/{fd}"), 10)
    for number in range(4):
        file.write(f"{number}\n")
    file.close()
    os.close(fd)
    assert [each.read_text() for each in [*backups(path), path]] == [HEADER + "0\n1\n", HEADER + "2\n3\n"]


def test_a_file_that_was_moved_away(path: Path) -> None:
    """By logrotate, say. Whatever has its name now is not renamed."""
    file = open_file(path, 10)
    file.write("one\n")
    path.rename(path.with_name("moved"))
    file.write("two\n")
    assert path.read_text() == HEADER + "two\n"
    path.rename(path.with_name("moved too"))
    path.write_text("4\n")
    file.write("three\n")
    file.close()
    assert path.read_text() == "4\nthree\n"
    assert [each.read_text() for each in backups(path)] == [HEADER + "one\n", HEADER + "two\n"]


def test_a_file_that_cannot_be_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    file = open_file(path, 10)
    file.write("one\n")
    assert file.write("two\n") == 4
    assert re.match(r"`output_file`: \S+trace\.log is full and cannot be renamed: Permission d", str(file.failure))
    assert file.write("three\n") == 6
    file.close()
    assert path.read_text() == HEADER + "one\n"


def test_a_folder_that_has_gone(path: Path) -> None:
    folder = path.parent / "folder"
    folder.mkdir()
    file = open_file(folder / "trace.log", 10)
    file.write("one\n")
    (folder / "trace.log").unlink()
    folder.rmdir()
    assert file.write("two\n") == 4
    assert re.match(r"`output_file`: cannot write .*: No such file or directory", str(file.failure))
    file.close()


def test_reopened_after_it_was_moved_away(path: Path) -> None:
    """As logrotate does: what was written before stays together, and the new file begins with the header."""
    file = open_file(path)
    file.write("one\n")
    file.reopen()  # nobody has moved it
    file.write("two\n")
    path.rename(path.with_suffix(".1"))
    file.reopen()
    assert path.read_text() == HEADER
    file.write("three\n")
    file.close()
    assert path.with_suffix(".1").read_text() == HEADER + "one\ntwo\n"
    assert path.read_text() == HEADER + "three\n"


def test_reopened_where_none_can_be_made(path: Path) -> None:
    """The trace goes on in the old one, and says so."""
    said: list[str] = []
    folder = path.parent / "folder"
    folder.mkdir()
    file = open_file(folder / "trace.log", on_message=said.append)
    folder.rename(path.parent / "moved")
    file.reopen()
    assert file.write("one\n") == 0
    file.close()
    assert (path.parent / "moved" / "trace.log").read_text() == HEADER + "one\n"
    (message,) = said
    assert re.match(r"`output_file`: cannot write \S+: No such file or directory; the trace goes on in ", message)


def test_a_line_that_was_not_finished(path: Path) -> None:
    """Whoever appended before was killed: the next line does not go on with it."""
    path.write_text("half a li")
    file = open_file(path)
    file.write("one\n")
    file.close()
    assert path.read_text() == "half a li\none\n"
