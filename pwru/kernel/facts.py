"""What was found out about a kernel image, kept for the next start: the same image gives the same answers.

A start spends most of its own time on questions whose answers only another kernel would change: which functions have an
skb, where they are from the start of the text, which of them ftrace can patch. They are kept in one file for each build
ID. Nothing depends on it: a file that is damaged, is somebody else's, was written by another pwru or for another kernel
is not read, and one that cannot be written is not missed.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from pathlib import Path
from stat import S_IWGRP, S_IWOTH
from typing import Any
from zlib import crc32

from pwru import __version__

FOLDER = "/var/cache/pwru"
NOTES = "/sys/kernel/notes"

_NT_GNU_BUILD_ID = 3
_KEPT = 8  # kernels


class Memory:
    """Answers to questions about the running kernel's image."""

    def __init__(self, folder: str = FOLDER, notes: str = NOTES) -> None:
        """Without a build ID in `notes` nothing is remembered from run to run."""
        build_id = _build_id(notes)
        self._path = Path(folder, f"{build_id}.json") if build_id else None
        # The first line of the file; only what this code found is this code's answer.
        self._title = f"pwru {__version__} {_newest_source()}\n".encode()
        self._answers: dict[str, Any] = self._read() if self._path else {}
        self._new = False

    def recall(self, question: str) -> Any:
        """The answer as it was learnt, tuples as lists; None if there is none."""
        return self._answers.get(question)

    def learn(self, question: str, answer: object) -> None:
        """`answer` is what JSON can hold."""
        self._answers[question] = answer
        self._new = True

    def keep(self) -> None:
        """Writes what was found since; to be called when nobody waits."""
        if self._path is None or not self._new:
            return
        body = json.dumps(self._answers, separators=(",", ":")).encode()
        with suppress(OSError):
            self._path.parent.mkdir(0o700, exist_ok=True)
            if not _is_ours(os.stat(self._path.parent)):
                return
            new = self._path.with_suffix(f".{os.getpid()}")
            new.unlink(missing_ok=True)
            try:
                fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(self._title + b"%08x\n" % crc32(body) + body)
                new.rename(self._path)
            finally:
                new.unlink(missing_ok=True)
            self._new = False
            files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink()

    def _read(self) -> dict[str, Any]:
        assert self._path
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                if not _is_ours(os.fstat(fd)) or not _is_ours(os.stat(self._path.parent)):
                    return {}
                if file.readline() != self._title:
                    return {}
                checksum, body = file.readline(), file.read()
            answers = json.loads(body) if checksum == b"%08x\n" % crc32(body) else {}
        except (OSError, ValueError):
            return {}
        return answers if isinstance(answers, dict) else {}


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (S_IWGRP | S_IWOTH)


def _build_id(notes: str) -> str | None:
    """The build ID of the running kernel, from its ELF notes: elf(5), "Notes (Nhdr)"."""
    try:
        data = Path(notes).read_bytes()
        at = 0
        while at < len(data):
            name_size, size, kind = struct.unpack_from("=3I", data, at)
            name = at + 12
            value = name + (name_size + 3 & ~3)
            if kind == _NT_GNU_BUILD_ID and data[name : name + name_size] == b"GNU\0":
                return data[value : value + size].hex() or None
            at = value + (size + 3 & ~3)
    except (OSError, struct.error):
        pass
    return None


def _newest_source() -> int:
    """When the code that finds the answers was last changed: a checkout changes without a new version."""
    newest = 0
    here = Path(__file__).parent
    with suppress(OSError):  # a package in an archive
        for folder in (here, here.parent / "live" / "backends"):
            for entry in os.scandir(folder):
                if entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
    return newest
