"""Facts about a kernel image, saved for the next start: the same image gives the same facts.

A start spends most of its own time on what depends on nothing but the image: which functions have an skb, their
offsets from the start of the text, which of them ftrace can patch. There is one file per build ID. One that is damaged,
belongs to somebody else or was written by another version is not read, and one that cannot be written is not missed.
"""

import json
import os
import struct
from contextlib import suppress
from pathlib import Path
from stat import S_IWGRP, S_IWOTH
from typing import Any
from zlib import crc32

from pwru import __version__

# To be raised whenever the same question gets another answer: a checkout changes without a new version.
SCHEMA = 2

FOLDER = "/var/cache/pwru"
NOTES = "/sys/kernel/notes"

_NT_GNU_BUILD_ID = 3
_MAX_FILES = 8


class Facts:
    """Facts about the image of the running kernel."""

    def __init__(self, folder: str = FOLDER, notes: str | None = NOTES) -> None:
        """Without a build ID in `notes`, no fact is saved."""
        build_id = _build_id(notes) if notes else None
        self._path = Path(folder, f"{build_id}.json") if build_id else None
        self._title = f"pwru {__version__} {SCHEMA}\n".encode()  # the first line of the file
        self._facts: dict[str, Any] = self._read() if self._path else {}
        self._changed = False

    def get(self, name: str) -> Any:
        """Return a fact as it was set, with lists for tuples; None if it is not known."""
        return self._facts.get(name)

    def set(self, name: str, fact: object) -> None:
        """Add a fact, which must be something that JSON can hold."""
        self._facts[name] = fact
        self._changed = True

    def save(self) -> None:
        """Write the facts if any is new; to be called when nobody waits."""
        if self._path is None or not self._changed:
            return
        body = json.dumps(self._facts, separators=(",", ":")).encode()
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
            self._changed = False
            files = sorted(self._path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for old in files[:-_MAX_FILES]:
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
            facts = json.loads(body) if checksum == b"%08x\n" % crc32(body) else {}
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (S_IWGRP | S_IWOTH)


def _build_id(notes: str) -> str | None:
    """Return the build ID of the running kernel, from its ELF notes: elf(5), "Notes (Nhdr)"."""
    try:
        data = Path(notes).read_bytes()
        at = 0
        while at < len(data):
            name_size, size, note_type = struct.unpack_from("=3I", data, at)
            name = at + 12
            value = name + (name_size + 3 & ~3)
            if note_type == _NT_GNU_BUILD_ID and data[name : name + name_size] == b"GNU\0":
                return data[value : value + size].hex() or None
            at = value + (size + 3 & ~3)
    except (OSError, struct.error):
        pass
    return None
