"""Recorded files as one source of events, from the first to the last."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import compress
from typing import IO, TYPE_CHECKING

from pwru.errors import PwruError, printable
from pwru.events.selected import Numbering, Selected
from pwru.record.bounds import damaged
from pwru.record.chunks import Damaged
from pwru.record.columns import NONE
from pwru.record.follow import LIVING_LIMIT, Numbers
from pwru.record.recording import Recording
from pwru.record.shown import check_recorded
from pwru.record.tables import RecordedNames
from pwru.replay.moments import Span
from pwru.replay.wanted import Tests, Wanted, masks

if TYPE_CHECKING:
    from pwru.record.about import About
    from pwru.record.account import Account
    from pwru.record.columns import Columns
    from pwru.record.schema import Record, Schema

_BATCH, _BATCH_BYTES = 4096, 1 << 22  # events and bytes at a time, at most
_MATCHED = 1 << 18  # packets that have matched and may go on, at most
STDIN = "-"
_UNKNOWN = (0, 0)


class Replay:
    """A source: see sinks.Source. `events`: how many were read so far, wanted or not.

    A recording that is cut or damaged gives what precedes that; `damage` then says what is wrong.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Open the first of these files, which are of one run. Raises PwruError if it is no recording."""
        self._paths = _in_order(paths)
        self._next = 0
        self._file: IO[bytes] | None = None
        self.damage: PwruError | None = None
        self.account: Account | None = None
        self.events = 0
        self._recording = self._open()
        self.schema: Schema = self._recording.heading.schema
        self.about: About = self._recording.heading.about
        self.names = self._recording.names
        self.numbers = Numbers(max(2 * self.about.follow_limit, LIVING_LIMIT))
        self._times: tuple[int, int] | None = _UNKNOWN
        self._matched: dict[int, None] = {}
        self._packet_of: dict[bytes, tuple[int, int]] = {}  # the kernel's number and ours, by struct follow

    @property
    def name(self) -> str:
        """What the file that is read is called in messages."""
        path = self._paths[self._next - 1]
        return "standard input" if path == STDIN else printable(path) or repr("")

    def reads(self, path: str) -> bool:
        """Return whether this is one of the files."""
        with suppress(OSError):
            there = os.stat(path)
            same = (os.path.samestat(there, os.stat(0 if name == STDIN else name)) for name in self._paths)
            return stat.S_ISREG(there.st_mode) and any(same)
        return False

    def _open(self, names: RecordedNames | None = None) -> Recording:
        if self._file:
            self._file.close()
        path = self._paths[self._next]
        self._next += 1
        try:
            fd = 0 if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._file = os.fdopen(fd, "rb", buffering=1 << 18)
            return Recording(self._file, names)
        except OSError as error:
            raise PwruError(f"cannot read {self.name}: {error.strerror}") from None
        except PwruError as error:
            raise PwruError(f"{self.name}: {error}") from None

    @staticmethod
    def lives(_skb: int, _instance: int) -> None:
        """Nobody knows what became of an skb after the trace."""

    def close(self) -> None:
        if self._file:
            self._file.close()

    def read(self, wanted: Wanted, test: Callable[..., bool] | None) -> Iterator[list[Record]]:
        """Return the events that are wanted, in batches that may be empty.

        `test`: the packet filter, see packets.packet_test(). Raises PwruError, at once, for what was not recorded.
        """
        return self._read(wanted, self._tests(wanted, test))

    def columns(self, wanted: Wanted, test: Callable[..., bool] | None) -> Iterator[Selected]:
        """Return the same events as columns, chunk by chunk. Raises PwruError as read() does."""
        return self._columns(wanted, self._tests(wanted, test))

    def _tests(self, wanted: Wanted, test: Callable[..., bool] | None) -> Tests:
        if wanted.packets:
            check_recorded(self.schema, "follow")
        if wanted.span != Span():
            check_recorded(self.schema, "time")
        return Tests(wanted, self.schema, self.names, [test] if test else [])

    def _read(self, wanted: Wanted, tests: Tests) -> Iterator[list[Record]]:
        for columns in self._chunks():
            tests.refresh()
            try:
                yield from self._batches(columns, wanted, tests)
            except Damaged as error:
                self._damaged(error)
                return

    def _columns(self, wanted: Wanted, tests: Tests) -> Iterator[Selected]:
        numbering = Numbering(self.schema, self.numbers)
        for columns in self._chunks():
            tests.refresh()
            try:
                with damaged("a chunk of events"):
                    selected = self._select(columns, wanted, tests, numbering)
            except Damaged as error:
                self._damaged(error)
                return
            yield selected

    def _chunks(self) -> Iterator[Columns]:
        """Yield the chunks of all files, until one is damaged; then `damage` says so."""
        while True:
            try:
                for columns in self._recording.chunks():
                    self.events += columns.events
                    yield columns
            except Damaged as error:
                self._damaged(error)
                return
            except OSError as error:
                self.damage = PwruError(f"cannot read {self.name}: {error.strerror}")
                return
            self.account = self._recording.account or self.account
            if self._next == len(self._paths):
                break
            if not self._go_on():
                return
        if not (self._recording.account or self._recording.continued):
            why = "the trace still runs, was killed, or could not write more"
            self.damage = PwruError(f"{self.name} ends without an account: {why}")

    def _damaged(self, error: Damaged) -> None:
        self.damage = PwruError(f"{self.name}: {error}; what precedes that was read")

    def _go_on(self) -> bool:
        """Open the next file; return whether it belongs to the same run."""
        try:
            self._recording = self._open(self.names)
        except PwruError as error:
            self.damage = error
            return False
        heading = self._recording.heading
        same = heading.about.trace == self.about.trace and heading.schema.slots == self.schema.slots
        if not same or heading.schema.sizes != self.schema.sizes:
            self.damage = PwruError(f"{self.name} is of another run than {printable(self._paths[0])}")
        return self.damage is None

    def _select(self, columns: Columns, wanted: Wanted, tests: Tests, numbering: Numbering) -> Selected:
        """Return which events of a chunk are wanted: the same ones as _batches() does."""
        numbered, count, keep = numbering.of(columns), columns.events, masks(columns, tests.matches)
        times = columns.columns.get("time", NONE).each(count)
        if self._times is _UNKNOWN:
            self._times = _times(wanted.span, next(iter(times)), columns.offset)
        follow = columns.columns.get("follow", NONE)
        if keep and wanted.follow and follow.values:
            ids = list(map([self.schema.follow(raw).packet for raw in follow.values].__getitem__, follow.indices))
            keep = self._follow(keep, ids)
        chosen = None
        if wanted.packets:
            said = [each.packet in wanted.packets for each in numbered]
            chosen = list(map(said.__getitem__, follow.indices))
        in_time = None
        if self._times is not None:
            begin, end = self._times
            in_time = [begin <= time <= end for time in times]
        for more in (masks(columns, tests.shows), chosen, in_time):
            if more is not None:
                keep = more if keep is None else [a and b for a, b in zip(keep, more, strict=True)]
        return Selected(columns, numbered, keep)

    def _batches(self, columns: Columns, wanted: Wanted, tests: Tests) -> Iterator[list[Record]]:
        records = columns.records()
        if self._times is _UNKNOWN:
            self._times = _times(wanted.span, records[0][5], columns.offset)  # type: ignore[arg-type]
        match, show = masks(columns, tests.matches), masks(columns, tests.shows)
        size = max(min(_BATCH, _BATCH_BYTES // self.schema.size), 1)
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            keep = match and match[start : start + size]
            follow = "follow" in self.schema.parts
            numbers = [self._number(record[4]) for record in batch] if follow else []
            if keep and follow and wanted.follow:
                keep = self._follow(keep, [packet for packet, _ in numbers])
            if keep is not None:
                keep = list(keep)
            for more in (show and show[start : start + size], _chosen(numbers, wanted), _in_time(batch, self._times)):
                if more is not None:
                    keep = more if keep is None else [a and b for a, b in zip(keep, more, strict=True)]
            yield batch if keep is None else list(compress(batch, keep))

    def _number(self, raw: bytes) -> tuple[int, int]:
        """Give every packet its number, wanted or not: it is the same whatever is asked for."""
        known = self._packet_of.get(raw)
        if known is None:
            event = self.schema.follow(raw)
            number = self.numbers.see(event).packet.number if event.packet else 0
            if len(self._packet_of) >= _BATCH:
                self._packet_of.clear()
            known = self._packet_of[raw] = event.packet, number
        return known

    def _follow(self, matches: Sequence[bool], packets: Sequence[int]) -> list[bool]:
        """Return which events are of packets that match here, or did before."""
        matched, keep = self._matched, []
        for match, packet in zip(matches, packets, strict=True):
            if match and packet and packet not in matched:
                if len(matched) >= _MATCHED:
                    del matched[next(iter(matched))]
                matched[packet] = None
            keep.append(match or packet in matched)
        return keep


def _chosen(numbers: Sequence[tuple[int, int]], wanted: Wanted) -> list[bool] | None:
    return [number in wanted.packets for _, number in numbers] if wanted.packets else None


def _in_time(batch: Sequence[Record], times: tuple[int, int] | None) -> list[bool] | None:
    if times is None:
        return None
    begin, end = times
    return [begin <= record[5] <= end for record in batch]  # type: ignore[operator]  # it was recorded


def _times(span: Span, first: int, offset: int) -> tuple[int, int] | None:
    """Return the first and the last time of a span, in ns of the clock of events; None if it has no limits."""
    if span.begin is span.end is None:
        return None
    begin, end = (moment and moment.resolve(first, offset) for moment in span)
    return begin or 0, 1 << 64 if end is None else end


def _in_order(paths: Sequence[str]) -> list[str]:
    """Return the files that these name, a pattern in quotes among them, oldest first. Raises PwruError for none."""
    found = []
    for path in paths:
        matching = [path] if path == STDIN or os.path.exists(path) else glob.glob(path)
        if not matching:
            raise PwruError(f"cannot read {printable(path) or repr('')}: No such file or directory")
        found += matching
    if len(found) > 1:
        if STDIN in found:
            raise PwruError("standard input is one recording, and cannot be read with others")
        found.sort(key=_begin)
    return found


def _begin(path: str) -> int:
    """Return the time of the first event of a file; of one that has none, when it was written."""
    with suppress(OSError, PwruError), open(path, "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            for columns in Recording(file).chunks():
                times = columns.columns["time"].values if "time" in columns.columns else ()
                return times[0] + columns.offset if times else os.fstat(file.fileno()).st_mtime_ns
    return 0
