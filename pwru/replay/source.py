"""Recorded files as one source of events, from the first to the last."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import compress
from typing import IO, TYPE_CHECKING, Any

from pwru.errors import PwruError, printable
from pwru.events.selected import Numbering, Selected
from pwru.record.account import Account
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
    from pwru.record.columns import Columns
    from pwru.record.schema import Record, Schema

_BATCH, _BATCH_BYTES = 4096, 1 << 22  # events and bytes at a time, at most
_MATCHED = 1 << 18  # packets that have matched and may go on, at most
STDIN = "-"


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
        self._limits: tuple[int, int] | None = None  # of the time of events, in ns
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

    def account_of(self, delivered: int) -> Account:
        """Return the account of the trace, as far as it was read, without those of its events that were not wanted.

        `delivered`: how many were. If these are not all that were read, nobody has counted their packets here.
        """
        seen = self.events
        recorded = self.account or Account(seen, 0, 0, 0, self.about.ring_buffer_size, events=seen)
        return recorded._replace(
            hits=max(recorded.hits - recorded.events, recorded.full + recorded.busy) + delivered,
            events=delivered,
            packets=recorded.packets if delivered == seen else 0,
            waiting=recorded.waiting if delivered == seen == recorded.events else (),
        )

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
        for columns in self._chunks(wanted.span):
            tests.refresh()
            try:
                yield from self._batches(columns, wanted, tests)
            except Damaged as error:
                self._damaged(error)
                return

    def _columns(self, wanted: Wanted, tests: Tests) -> Iterator[Selected]:
        numbering = Numbering(self.schema, self.numbers)
        for columns in self._chunks(wanted.span):
            tests.refresh()
            try:
                with damaged("a chunk of events"):
                    selected = self._select(columns, wanted, tests, numbering)
            except Damaged as error:
                self._damaged(error)
                return
            yield selected

    def _chunks(self, span: Span) -> Iterator[Columns]:
        """Yield the chunks of all files, until one is damaged; then `damage` says so."""
        while True:
            try:
                for columns in self._recording.chunks():
                    if not self.events and span != Span():
                        self._limits = _limits(span, columns.columns["time"].values[0], columns.offset)
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
        """Return which events of a chunk are wanted."""
        numbered, packets = numbering.of(columns), list[tuple[int, int]]()
        match, show = masks(columns, tests.matches), masks(columns, tests.shows)
        follow = columns.columns.get("follow", NONE)
        if wanted.packets or (match and wanted.follow):
            ids = (self.schema.follow(raw).packet for raw in follow.values)
            each = [(packet, known.packet) for packet, known in zip(ids, numbered, strict=True)]
            packets = list(map(each.__getitem__, follow.indices))
        times = columns.columns.get("time", NONE).values
        return Selected(columns, numbered, self._keep(wanted, (match, show), packets, times))

    def _batches(self, columns: Columns, wanted: Wanted, tests: Tests) -> Iterator[list[Record]]:
        """Yield the events of a chunk that are wanted. Numbers are given piece by piece: only the last are known."""
        records = columns.records()
        match, show = masks(columns, tests.matches), masks(columns, tests.shows)
        size = max(min(_BATCH, _BATCH_BYTES // self.schema.size), 1)
        for start in range(0, len(records), size):
            here = slice(start, start + size)
            batch = records[here]
            packets = [self._number(record[4]) for record in batch] if "follow" in self.schema.parts else []
            keep = self._keep(wanted, (match and match[here], show and show[here]), packets, [r[5] for r in batch])
            yield batch if keep is None else list(compress(batch, keep))

    def _keep(
        self,
        wanted: Wanted,
        said: tuple[Sequence[bool] | None, Sequence[bool] | None],
        packets: Sequence[tuple[int, int]],
        times: Sequence[Any],
    ) -> Sequence[bool] | None:
        """Return whether each event is wanted; None: all are.

        `said`: whether its packet matches, and whether it is to be shown then. `packets`: the kernel's number and ours.
        """
        match, show = said
        if match and packets and wanted.follow:
            match = self._follow(match, [packet for packet, _ in packets])
        chosen = [number in wanted.packets for _, number in packets] if wanted.packets else None
        in_time = None
        if self._limits:
            begin, end = self._limits
            in_time = [begin <= time <= end for time in times]
        masks = [mask for mask in (match, show, chosen, in_time) if mask is not None]
        return list(map(all, zip(*masks, strict=True))) if len(masks) > 1 else next(iter(masks), None)

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


def _limits(span: Span, first: int, offset: int) -> tuple[int, int]:
    """Return the first and the last time of a span, in ns of the clock of events."""
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
