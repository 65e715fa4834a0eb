"""What a session tells its caller while it works, and why it could not begin."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from pwru.errors import PwruError


def _ignore(*_: object) -> None:
    """The caller does not want to know."""


class Unavailable(PwruError):
    """No backend works here; `reasons` are why."""

    def __init__(self, refused: dict[str, list[str]]) -> None:
        super().__init__(f"this kernel cannot be traced: {all_reasons(refused)}")
        self.reasons = list(refused)


class Hooks(NamedTuple):
    """What a session tells its caller while it works, and asks.

    `message` gets lines for the user, `debug` further ones, or is None. `phase` is called when a phase of the start is
    done, with its name. `progress()` is entered while one backend attaches, and gives what is called with the number of
    attached probes and of all. `check` raises to end the start.
    """

    message: Callable[[str], None] = _ignore
    debug: Callable[[str], None] | None = None
    phase: Callable[[str], None] = _ignore
    progress: Callable[[], AbstractContextManager[Callable[[int, int], None]]] = lambda: nullcontext(_ignore)
    check: Callable[[], None] = _ignore


def all_reasons(refused: dict[str, list[str]]) -> str:
    """Return the reasons, each with the backends that were refused for it."""
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in refused.items())
