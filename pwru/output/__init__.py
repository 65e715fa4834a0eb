"""Where events go: one class for each format behind one small interface, and the file that they are written to."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol, TypeVar

from pwru.errors import PwruError

if TYPE_CHECKING:
    from pwru.event import Record

# What is kept per distinct run of bytes is bounded by forgetting all of it: a trace can go on for days.
CACHE_LIMIT = 1 << 16

K = TypeVar("K")


def keep(cache: dict[K, str], key: K, text: str) -> str:
    """Puts formatted text into a cache, and returns it."""
    if len(cache) >= CACHE_LIMIT:
        cache.clear()
    cache[key] = text
    return text


class Format(Protocol):
    """A format turns events into the bytes of a file."""

    def header(self) -> str: ...

    def events(self, records: list[Record]) -> str:
        """The lines for these records, one each, with their line ends."""


class Writer:
    """The destination: standard output or a file that is appended to. Every write is complete when it returns."""

    def __init__(self, path: str | None) -> None:
        """Raises PwruError if the file cannot be written."""
        self.path = path
        self.fd = 1
        if path is None and sys.stdout is None:
            raise PwruError("standard output is closed: there is nowhere to write events to; see --output-file")
        if path is not None:
            try:
                # Packets are nobody else's business: readable by the owner only.
                self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise PwruError(f"--output-file: cannot write {path}: {error.strerror}") from None

    def write(self, text: str) -> None:
        """Raises BrokenPipeError when the reader has gone."""
        data = memoryview(text.encode())
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BrokenPipeError:
                raise
            except OSError as error:
                where = self.path or "standard output"
                raise PwruError(f"cannot write to {where}: {error.strerror}") from None

    def close(self) -> None:
        if self.path is not None:
            os.close(self.fd)
