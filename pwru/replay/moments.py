"""Times as somebody types them, for events of a recording."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from pwru.errors import PwruError

_SECOND = 10**9
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?", re.ASCII)
_SINCE = re.compile(r"\+([0-9]{1,9})(?:\.([0-9]{1,9}))?", re.ASCII)


class Moment(NamedTuple):
    """`text` as it was typed: a date with a time, the time of a day, or +SECONDS since the first event."""

    text: str

    def resolve(self, first: int, offset: int) -> int:
        """Return it in ns of the clock of events: `first` is the first event, `offset` as of Names.clock_offset()."""
        if since := _SINCE.fullmatch(self.text):
            return first + _nanoseconds(int(since[1]), since[2])
        return _date(self.text, (first + offset) // _SECOND) - offset


class Span(NamedTuple):
    """From one moment to another; None: without a limit."""

    begin: Moment | None = None
    end: Moment | None = None


def span(text: str) -> Span:
    """Return BEGIN..END, of which one may be missing. Raises PwruError."""
    begin, dots, end = text.partition("..")
    if not dots or not (begin or end):
        raise PwruError(f"{text!r} is no span of time; one is 12:30:00..12:31, another +1.5..+2 (s since the first)")
    return Span(*(moment(part) if part else None for part in (begin, end)))


def moment(text: str) -> Moment:
    """Raises PwruError for text that is none."""
    if not _SINCE.fullmatch(text):
        _date(text, 0)
    return Moment(text)


def _date(text: str, day: int) -> int:
    """Return ns since the epoch; a time without a date is of the day on which these seconds since the epoch are."""
    try:
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second, fraction = clock.groups()
            when = datetime.fromtimestamp(day).replace(hour=int(hour), minute=int(minute), second=int(second or 0))
            return _nanoseconds(int(when.timestamp()), fraction)
        date, fraction = re.sub(r"\.[0-9]{1,9}", "", text), re.search(r"\.([0-9]{1,9})", text)
        return _nanoseconds(int(datetime.fromisoformat(date).timestamp()), fraction and fraction[1])
    except (ValueError, OverflowError, OSError):
        examples = "12:30:00.5, 2026-01-31T12:30, +1.5 (s since the first)"
        raise PwruError(f"{text!r} is no time; these are: {examples}") from None


def _nanoseconds(seconds: int, fraction: str | None) -> int:
    return seconds * _SECOND + int((fraction or "0").ljust(9, "0"))
