"""What goes wrong with packets: conditions on their whole ways."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from pwru.errors import PwruError, near
from pwru.record.living import Living
from pwru.record.packets import DROPPED, IDLE, Way

WORDS = ("dropped", "slower", "retransmitted", "stuck")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}


class Wrong(NamedTuple):
    """Which packets are wanted: those that any of it is true of.

    `slower`: it took longer than so many ns from its first event to the last; 0: that does not matter. `stuck`: it was
    not seen for IDLE, and lives.
    """

    dropped: bool = False
    slower: int = 0
    retransmitted: bool = False
    stuck: bool = False

    def is_true_of(self, way: Way, now: int, living: Living) -> bool:
        """Return whether a way that was given out is wanted, at `now`: ns since boot."""
        return (
            (self.dropped and way.end == DROPPED)
            or (0 < self.slower < way.duration)
            or (self.retransmitted and way.transmissions > 1)
            or (self.stuck and way.last <= now - IDLE and living.any(living.places(way)))
        )


def parse(words: Iterable[str]) -> Wrong:
    """Return what words such as `dropped` or `slower=5ms` say. Raises PwruError if that is nothing."""
    found: dict[str, int | bool] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in WORDS:
            raise PwruError(f"{word!r} is none of {', '.join(WORDS)}; {near(name, WORDS)}".rstrip("; "))
        if bool(equals) != (name == "slower"):
            raise PwruError(f"{word!r}: slower has a time, as in slower=5ms, and the others have none")
        found[name] = _ns(value) if equals else True
    return Wrong(**found)  # type: ignore[arg-type]


def _ns(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s)", text)
    ns = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if ns < 1:
        raise PwruError(f"{text!r} is not a time such as 500us, 5ms or 1.5s")
    return ns
