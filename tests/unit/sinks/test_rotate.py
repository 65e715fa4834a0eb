"""Where lines go: complete, in whole lines, in files that are kept and compressed as was asked for."""

from __future__ import annotations

import gzip
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pwru.commands.options import Options
from pwru.errors import PwruError
from pwru.sinks import stream as module
from pwru.sinks.stream import Backups, File, Writer, writer

HEADER = "WHAT\n"
BACKUP = re.compile(r"trace-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log")
# Times of backups, oldest first.
TIMES = ("2020-02-29T23-59-59.999", "2020-03-01T00-00-00.000", "2021-01-01T00-00-00.000")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.log"


def open_file(path: Path, max_bytes: int = 1 << 20, **backups: Any) -> File:
    file = File(str(path), max_bytes, Backups(str(path), **backups))
    file.begin(HEADER)
    return file


def names(path: Path) -> list[str]:
    """All files beside it, in the order of their names: backups by time."""
    return sorted(entry.name for entry in path.parent.iterdir())


def backups(path: Path) -> list[Path]:
    return [path.parent / name for name in names(path) if name != path.name]


def make_backups(path: Path, *suffixes: str) -> list[Path]:
    made = [path.parent / f"trace-{suffix}" for suffix in suffixes]
    for backup in made:
        backup.write_text(f"in {backup.name}\n")
    return made


# --- one file ---


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
    """Not an error of ours: the command ends quietly."""
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


# --- a full file ---


def test_a_full_file_is_renamed(path: Path) -> None:
    before = time.time()
    file = open_file(path, 20)
    for number in range(5):
        file.write(f"line {number}\n")  # two of them and the header take 19 bytes
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
    """Written by the hundred, which a file has no room for, and with lines longer than a file."""
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
    file.begin("")
    for _ in range(3):
        file.write('{"a":1}\n')
    file.close()
    assert [each.read_text() for each in [*backups(path), path]] == ['{"a":1}\n'] * 3


def test_backups_of_the_same_moment_do_not_replace_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_582_934_399_999_000_000)  # what stands still may also go back
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
        for backup in backups(path):  # else it would be in the way of the next
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
    """By logrotate, say. What is there now, or nothing, is not renamed in its place."""
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
    with pytest.raises(PwruError, match=r"--output-file: \S+trace\.log is full and cannot be renamed: Permission d"):
        file.write("two\n")
    file.close()
    assert path.read_text() == HEADER + "one\n"


def test_a_folder_that_has_gone(path: Path) -> None:
    folder = path.parent / "folder"
    folder.mkdir()
    file = open_file(folder / "trace.log", 10)
    file.write("one\n")
    (folder / "trace.log").unlink()
    folder.rmdir()
    with pytest.raises(PwruError, match=r"--output-file: cannot write .*: No such file or directory"):
        file.write("two\n")
    file.close()


# --- backups ---


def test_all_are_kept_unless_told_otherwise(path: Path) -> None:
    make_backups(path, *(f"{when}.log" for when in TIMES))
    open_file(path).close()
    assert len(backups(path)) == 3


def test_backups_are_limited_in_number(path: Path) -> None:
    """At the start and then; one and the same by its time, compressed or not, is one."""
    make_backups(path, *(f"{when}.log" for when in TIMES), f"{TIMES[2]}.log.gz")
    open_file(path, max_count=2).close()
    assert [b.name for b in backups(path)] == [
        f"trace-{TIMES[1]}.log",
        f"trace-{TIMES[2]}.log",
        f"trace-{TIMES[2]}.log.gz",
    ]
    file = open_file(path, 10, max_count=2)
    for number in range(10):
        file.write(f"{number}\n")
    file.close()
    assert [b.read_text() for b in backups(path)] == [HEADER + "4\n5\n", HEADER + "6\n7\n"]


def test_backups_are_limited_in_age(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_backups(path, *(f"{when}.log" for when in TIMES), f"{TIMES[0]}.log.gz")
    # 2020-03-02T00:00:00: one day after the second
    monkeypatch.setattr(time, "time_ns", lambda: 1_583_107_200 * 10**9)
    open_file(path, max_days=1).close()
    assert [b.name for b in backups(path)] == [f"trace-{TIMES[1]}.log", f"trace-{TIMES[2]}.log"]
    monkeypatch.setattr(time, "time_ns", lambda: 1_583_107_200 * 10**9 + 10**6)
    open_file(path, max_days=1).close()
    assert [b.name for b in backups(path)] == [f"trace-{TIMES[2]}.log"]


OTHERS = (
    "trace.log.1",
    "trace-2020-02-29.log",
    "trace-2020-02-29T23-59-59.999.txt",
    "trace-2020-02-29T23-59-59.999.log.bz2",
    "trace-2020-02-29T23-59-59.log",
    "trace-2020-02-30T23-59-59.999.log",
    "trace-2020-02-29T24-59-59.999.log",
    "trace-2020-02-29T23-59-59.999xlog",
    "trace-٢٠٢٠-02-29T23-59-59.999.log",
    "trace-2020-02-29T23-59-59.999.log.gz.gz",
    "trace-a-2020-02-29T23-59-59.999.log",
    "other-2020-02-29T23-59-59.999.log",
    "a-trace-2020-02-29T23-59-59.999.log",
    "trace-2020-02-29T23-59-59.999.log\n",
)


@pytest.mark.parametrize("limit", [{"max_days": 1}, {"max_count": 1}, {"max_count": 1, "compress": True}])
def test_files_of_other_names_are_left_alone(path: Path, limit: dict[str, Any]) -> None:
    for name in OTHERS:
        (path.parent / name).touch()
    (path.parent / f"trace-{TIMES[0]}.log").mkdir()
    (path.parent / f"trace-{TIMES[1]}.log").symlink_to("trace.log.1")
    (newest,) = make_backups(path, f"{TIMES[2]}.log.gz")
    open_file(path, **limit).close()
    left = {each.name for each in backups(path)} - {newest.name}
    assert left == {*OTHERS, f"trace-{TIMES[0]}.log", f"trace-{TIMES[1]}.log"}


def test_what_cannot_be_removed_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    make_backups(path, *(f"{when}.log" for when in TIMES))
    monkeypatch.setattr(os, "remove", refuse)
    open_file(path, max_count=2).close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Not removed: {path.parent}/trace-{TIMES[0]}.log: Operation not permitted."


# --- compression ---


def unzipped(path: Path) -> str:
    with gzip.open(path, "rt") as file:
        return file.read()


def test_backups_are_compressed(path: Path) -> None:
    make_backups(path, f"{TIMES[0]}.log")
    file = open_file(path, 10, compress=True)
    for number in range(4):
        file.write(f"{number}\n")
    file.close()
    old, new = backups(path)
    assert (old.name, unzipped(old)) == (f"trace-{TIMES[0]}.log.gz", f"in trace-{TIMES[0]}.log\n")
    assert re.fullmatch(BACKUP.pattern + r"\.gz", new.name)
    assert unzipped(new) == HEADER + "0\n1\n"
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert path.read_text() == HEADER + "2\n3\n"


@pytest.fixture
def slow_gzip(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Compression that goes on only when the event is set."""
    go_on = threading.Event()

    class Slow(gzip.GzipFile):
        def write(self, data: Any) -> int:
            assert go_on.wait(60)
            return super().write(data)

    monkeypatch.setattr(gzip, "GzipFile", Slow)
    yield go_on
    go_on.set()


def test_compression_does_not_hold_up_what_is_written(path: Path, slow_gzip: threading.Event) -> None:
    file = open_file(path, 10, compress=True, max_count=2)
    for number in range(20):
        file.write(f"{number}\n")
    assert path.read_text() == HEADER + "19\n"
    assert not [b for b in backups(path) if b.suffix == ".gz"]
    slow_gzip.set()
    file.close()
    assert [unzipped(b) for b in backups(path)] == [HEADER + "17\n", HEADER + "18\n"]


def test_who_waits_for_compression_is_told(
    path: Path, slow_gzip: threading.Event, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.01)

    def say(text: str) -> None:
        print(text)
        slow_gzip.set()

    monkeypatch.setattr(module, "say", say)
    make_backups(path, f"{TIMES[0]}.log")
    open_file(path, compress=True).close()
    assert capsys.readouterr().out == "Compressing what is full..\n"
    assert len(backups(path)) == 1


KILLED = """
import gzip, os, sys
from pwru.sinks.stream import Backups, File

class Killed(gzip.GzipFile):
    def close(self):
        self.flush()
        os.kill(os.getpid(), 9)

gzip.GzipFile = Killed
file = File(sys.argv[1], 1 << 20, Backups(sys.argv[1], compress=True))
file.begin("")
file.close()
"""


def test_an_end_in_the_middle_of_compression(path: Path) -> None:
    """What is not finished is no .gz, nor one backup of several; the next run does it again, or removes it."""
    (plain,) = make_backups(path, f"{TIMES[1]}.log")
    make_backups(path, f"{TIMES[0]}.log.gz")
    text = plain.read_text()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -9
    unfinished = path.parent / f"{plain.name}.gz.tmp"
    assert unfinished.exists()
    assert plain.read_text() == text
    assert not plain.with_name(f"{plain.name}.gz").exists()

    plain.rename(plain.with_name("away"))
    open_file(path, max_count=1).close()
    assert not unfinished.exists()
    assert (path.parent / f"trace-{TIMES[0]}.log.gz").exists()

    plain.with_name("away").rename(plain)
    unfinished.write_text("junk")
    open_file(path, compress=True).close()
    assert not unfinished.exists()
    assert not plain.exists()
    assert unzipped(path.parent / f"{plain.name}.gz") == text


def test_compressed_but_not_yet_removed(path: Path) -> None:
    plain, _ = make_backups(path, f"{TIMES[0]}.log", f"{TIMES[0]}.log.gz")
    text = plain.read_text()
    open_file(path, compress=True).close()
    (only,) = backups(path)
    assert unzipped(only) == text


def test_no_room_for_what_is_compressed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trace goes on, and the backup stays as it is."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (plain,) = make_backups(path, f"{TIMES[0]}.log")
    file = open_file(path, compress=True)
    file.write("one\n")
    file.close()
    assert path.read_text() == HEADER + "one\n"
    assert backups(path) == [plain]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Not compressed: {plain}: No space left on device."
