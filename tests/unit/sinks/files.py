"""An output file `trace.log` in a folder of its own, and the backups beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pwru.sinks.rotate import Backups, File

HEADER = "WHAT\n"
BACKUP = re.compile(r"trace-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log")
# Times of backups, oldest first.
TIMES = ("2020-02-29T23-59-59.999", "2020-03-01T00-00-00.000", "2021-01-01T00-00-00.000")


def file_at(path: Path | str, max_bytes: int = 1 << 20, **backups: Any) -> File:
    return File(str(path), max_bytes, Backups(str(path), **backups))


def open_file(path: Path, max_bytes: int = 1 << 20, **backups: Any) -> File:
    file = file_at(path, max_bytes, **backups)
    file.open()
    file.begin(HEADER.encode())
    return file


def names(path: Path) -> list[str]:
    """All files in its folder, sorted by name: backups by time."""
    return sorted(entry.name for entry in path.parent.iterdir())


def backups(path: Path) -> list[Path]:
    return [path.parent / name for name in names(path) if name != path.name]


def make_backups(path: Path, *suffixes: str) -> list[Path]:
    made = [path.parent / f"trace-{suffix}" for suffix in suffixes]
    for backup in made:
        backup.write_text(f"in {backup.name}\n")
    return made
