"""What is made of keys that repeat, kept in bounded memory: a trace can go on for days."""

from collections.abc import Callable
from typing import Generic, TypeVar

CACHE_LIMIT = 1 << 13  # keys; at this size all is forgotten

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V], Generic[K, V]):
    """What a function makes of a key, made on the first look-up."""

    def __init__(self, make: Callable[[K], V], limit: int = CACHE_LIMIT) -> None:
        self._make = make
        self._limit = limit

    def __missing__(self, key: K) -> V:
        made = self._make(key)  # first, since it may clear this
        if len(self) >= self._limit:
            self.clear()
        self[key] = made
        return made


def put_last(keys: dict[K, None], key: K, limit: int) -> None:
    """Put something last: the first one was not put here for longest, and goes if there are too many."""
    keys.pop(key, None)
    if len(keys) >= limit:
        del keys[next(iter(keys))]
    keys[key] = None
