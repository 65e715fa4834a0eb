"""What --timestamp prints of the time of an event: in the kernel it is bpf_ktime_get_ns(), CLOCK_MONOTONIC."""

import time
from collections.abc import Callable

PACKETS = 1 << 16  # of so many it is known when they were last seen
_SECOND = 10**9


class Clock:
    """From what a packet is known by and the time of an event, in ns, to what is printed: here that time.

    A packet is known by the skb's address, or by its number if it is followed.
    """

    is_first = False  # whether text has it as the first column

    def __init__(self, offset: Callable[[], int] = lambda: 0) -> None:
        """`offset`: see Names.clock_offset()."""
        self._look = offset

    def __call__(self, packet: int, now: int) -> int | str:
        return now

    def forget(self, packet: int) -> None:
        """Another packet begins that is known by this."""


class Relative(Clock):
    """Nanoseconds since this packet's last event; 0 at its first."""

    def __init__(self, offset: Callable[[], int] = lambda: 0) -> None:
        super().__init__(offset)
        self._last: dict[int, int] = {}

    def __call__(self, packet: int, now: int) -> int:
        # Taken out and put in again, so that who was not seen for longest comes first.
        last = self._last.pop(packet, now)
        if len(self._last) >= PACKETS:
            del self._last[next(iter(self._last))]
        self._last[packet] = now
        return now - last

    def forget(self, packet: int) -> None:
        self._last.pop(packet, None)


class Absolute(Clock):
    """The time of day of the event, in this time zone and to the millisecond.

    What the clocks differ by is looked at anew for each second: a machine sleeps, and its time is set.
    """

    is_first = True

    def __init__(self, offset: Callable[[], int] = lambda: 0) -> None:
        super().__init__(offset)
        self._second, self._text = -1, ""
        self._offset, self._until = 0, -1

    def __call__(self, packet: int, now: int) -> str:
        if not 0 <= self._until - now < _SECOND:
            self._offset = self._look()
            self._until = now + _SECOND - 1
        second, rest = divmod(now + self._offset, _SECOND)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))
        return f"{self._text}.{rest // 1_000_000:03}"


CLOCKS: dict[str, type[Clock]] = {"current": Clock, "relative": Relative, "absolute": Absolute}


class EventClock:
    """The clock that events have, which goes on when none come: of a recording, as if it came from a kernel now."""

    def __init__(self) -> None:
        self._event = self._arrival = 0

    def set(self, event: int) -> None:
        """Tell that an event of this time, in ns, has just come."""
        self._event, self._arrival = event, time.monotonic_ns()

    def now(self) -> int:
        """Return its time, in ns; 0 before the first event."""
        return self._event and self._event + time.monotonic_ns() - self._arrival
