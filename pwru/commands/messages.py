"""Messages to the person at the terminal: always on standard error, so that standard output holds events only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from pwru.errors import PwruError

if TYPE_CHECKING:
    import tqdm

QUIET_SECONDS = 0.5
LINE_SECONDS = 5.0


def say(message: str) -> None:
    """A standard error that is closed, or that nobody reads, is no reason to end a trace."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(_wrapped(message), file=sys.stderr, flush=True)


def report(text: str) -> None:
    """Print what was asked for to standard output. Raises PwruError if it cannot be written, but BrokenPipeError."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PwruError(f"cannot write to standard output: {error.strerror}") from None


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


class Phases:
    """How long each phase of the start takes."""

    def __init__(self, enabled: bool, on_message: Callable[[str], None] = say) -> None:
        self._enabled = enabled
        self._say = on_message
        self._last = time.perf_counter()

    def done(self, phase: str) -> None:
        now = time.perf_counter()
        if self._enabled:
            self._say(f"debug: {phase}: {(now - self._last) * 1000:.0f} ms")
        self._last = now


class Progress:
    """Shows how far a slow loop is: a bar on a terminal, a line now and then elsewhere, nothing if it is quick."""

    def __init__(self, what: str, on_message: Callable[[str], None] = say) -> None:
        self._what = what
        self._say = on_message
        self._started = self._said = time.monotonic()
        self._bar: tqdm.tqdm[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._started < QUIET_SECONDS or sys.stderr is None:
            return
        if sys.stderr.isatty():
            if self._bar is None:
                import tqdm

                self._bar = tqdm.tqdm(total=total, desc=self._what, leave=False, unit=" probes", initial=done)
            self._bar.update(done - self._bar.n)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(f"{self._what}: {done} of {total}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
