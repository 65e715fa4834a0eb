"""The number of cases per test, and the time and memory that a case may take."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hypothesis import HealthCheck, Phase, settings

from pwru.errors import PwruError, printable

CASES = int(os.environ.get("PWRU_FUZZ_CASES", "2000"))
SECONDS = 10.0  # of CPU time, so that other work on the machine does not count
MEMORY = 1 << 30  # on top of what the process has at first

cases = settings(
    max_examples=CASES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


class Hang(Exception):
    """A case took longer than anybody would wait."""


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hang


@contextmanager
def bounded() -> Iterator[None]:
    """End the block after SECONDS. PwruError is allowed inside if it is one line of text."""
    signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    except PwruError as error:
        text = str(error)
        assert text.strip()
        assert "\n" not in printable(text)
        assert len(text) < 1000
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
