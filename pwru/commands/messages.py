"""Messages to the person at the terminal: always on standard error, so that standard output holds events only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    import tqdm

_QUIET_SECONDS = 0.5
_LINE_SECONDS = 5.0


def say(message: str) -> None:
    """A standard error that is closed, or that nobody reads, is no reason to end a trace."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(_wrapped(message), file=sys.stderr, flush=True)


def _wrapped(message: str) -> str:
    """Between words on a terminal, where it would be broken anywhere; as it is elsewhere."""
    if not sys.stderr.isatty():
        return message
    width = os.get_terminal_size(sys.stderr.fileno()).columns
    lines = message.split("\n")
    if not width or max(map(len, lines)) <= width:
        return message
    import textwrap

    wrapper = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in lines)


def some(names: Sequence[str]) -> str:
    """The first of them, for a line in which all would be too many."""
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


class Phases:
    """How long each phase of the start takes, for `--debug`."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._last = time.perf_counter()

    def done(self, phase: str) -> None:
        now = time.perf_counter()
        if self._enabled:
            say(f"debug: {phase}: {(now - self._last) * 1000:.0f} ms")
        self._last = now


class Progress:
    """Shows how far a slow loop is: a bar on a terminal, a line now and then elsewhere, nothing if it is quick."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._said = time.monotonic()
        self._bar: tqdm.tqdm[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._started < _QUIET_SECONDS or sys.stderr is None:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                import tqdm

                self._bar = tqdm.tqdm(total=total, desc=self._what, leave=False, unit=" probes", initial=done)
            self._bar.update(done - self._bar.n)
        elif now - self._said >= _LINE_SECONDS:
            self._said = now
            say(f"{self._what}: {done} of {total}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
