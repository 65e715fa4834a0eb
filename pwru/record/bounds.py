"""What a recording may have at most: it may be anybody's, and must not exhaust its reader."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pwru.errors import printable
from pwru.record.chunks import Damaged
from pwru.record.layout import Mismatch

MAX_JSON = 1 << 22  # bytes of JSON in a chunk: as objects they take up to a hundred times as much
MAX_NAME = 1024  # characters: those of the kernel have 511, and what is added to them
MAX_COPY = 1 << 12  # bytes of a copy of a struct
MAX_FRAMES = 128
# What the reader keeps of a table, in characters and entries; the writer forgets sooner, and writes again what is used.
MAX_KEPT, MAX_ENTRIES = 1 << 26, 1 << 17
_ENTRY = 256  # characters that an entry takes besides its text
K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def damaged(what: str) -> Iterator[None]:
    """Turn whatever damaged data leads to into Damaged."""
    try:
        yield
    except Damaged:
        raise
    except (Mismatch, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(f"{what} is damaged ({type(error).__name__})") from None


def load(data: bytes) -> dict[str, Any]:
    """Return the object that a chunk holds. Raises ValueError."""
    if len(data) > MAX_JSON or type(said := json.loads(data)) is not dict:
        raise ValueError
    return said


def dump(said: Any) -> bytes:
    """Return the data of a chunk, which load() takes only up to MAX_JSON."""
    return json.dumps(said, separators=(",", ":")).encode()


def number(value: Any, bits: int = 64) -> int:
    """Return a number that is none too large for any use; JSON has fractions, and numbers of any size."""
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError
    return value


def name(value: Any) -> str:
    """Return text that is safe on a terminal, and not long."""
    if type(value) is not str:
        raise TypeError
    return printable(value[:MAX_NAME])


def weight(texts: Iterable[str]) -> int:
    """Return what an entry with these takes of MAX_KEPT."""
    return _ENTRY + sum(64 + len(text) for text in texts)


class Kept(dict[K, V]):
    """A table that forgets its oldest entries when there is too much of it."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: dict[K, int] = {}
        self._total = 0

    def keep(self, key: K, value: V, weight: int) -> None:
        """Take an entry, as the newest."""
        if key in self:
            self._drop(key)
        self[key], self._weights[key] = value, weight
        self._total += weight
        while self._total > MAX_KEPT or len(self) > MAX_ENTRIES:
            self._drop(next(iter(self)))

    def _drop(self, key: K) -> None:
        del self[key]
        self._total -= self._weights.pop(key)
