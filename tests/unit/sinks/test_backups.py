"""Backups of the output file are kept, removed and compressed as requested."""

from __future__ import annotations

import gzip
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .files import BACKUP, HEADER, TIMES, backups, make_backups, open_file

# --- limits ---


def test_all_are_kept_unless_told_otherwise(path: Path) -> None:
    make_backups(path, *(f"{when}.log" for when in TIMES))
    open_file(path).close()
    assert len(backups(path)) == 3


def test_backups_are_limited_in_number(path: Path) -> None:
    """At the start and later. Compressed and uncompressed files of the same time are one backup."""
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


def test_what_cannot_be_removed_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    make_backups(path, *(f"{when}.log" for when in TIMES))
    monkeypatch.setattr(os, "remove", refuse)
    messages: list[str] = []
    open_file(path, max_count=2, on_message=messages.append).close()
    (line,) = messages
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
    """Block compression until the event is set."""
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


def test_who_waits_for_compression_is_told(path: Path, slow_gzip: threading.Event) -> None:
    messages = []

    def say(text: str) -> None:
        messages.append(text)
        slow_gzip.set()

    make_backups(path, f"{TIMES[0]}.log")
    open_file(path, compress=True, on_message=say).close()
    assert messages == ["Compressing rotated files …"]
    assert len(backups(path)) == 1


KILLED = """
import gzip, os, sys
from pwru.sinks.rotate import Backups, File

class Killed(gzip.GzipFile):
    def close(self):
        self.flush()
        os.kill(os.getpid(), 9)

gzip.GzipFile = Killed
file = File(sys.argv[1], 1 << 20, Backups(sys.argv[1], compress=True))
file.open()
file.begin(b"")
file.close()
"""


def test_an_end_in_the_middle_of_compression(path: Path) -> None:
    """An unfinished file is not a .gz and does not count as a backup; the next run compresses again, or removes it."""
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


def test_no_room_for_what_is_compressed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace continues, and the backup stays as it is."""

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (plain,) = make_backups(path, f"{TIMES[0]}.log")
    messages: list[str] = []
    file = open_file(path, compress=True, on_message=messages.append)
    file.write("one\n")
    file.close()
    assert path.read_text() == HEADER + "one\n"
    assert backups(path) == [plain]
    (line,) = messages
    assert line == f"Not compressed: {plain}: No space left on device."
