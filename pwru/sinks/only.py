"""The flight recorder: of all packets, only those that go wrong reach another sink, each with its whole way.

All events are held until it is known what becomes of their packet. That takes no more memory than Packets is allowed,
so it can run for days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pwru.errors import PwruError
from pwru.record.follow import Numbers
from pwru.record.living import Living
from pwru.record.packets import IDLE, Packets, Way
from pwru.record.summary import PATIENCE
from pwru.sinks import Sink, Source
from pwru.sinks.time import EventClock

if TYPE_CHECKING:
    from pwru.record.account import Account
    from pwru.record.schema import Record
    from pwru.record.wrong import Wrong

TICK = 1.0
_REMEMBERED = 1 << 12  # packets that went wrong, and may be seen again after they were given out


class _Chosen:
    """The same source for the other sink, which gives numbers to the packets that it gets: as they have in a file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.numbers = Numbers()

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


class Only(Sink):
    """Took all records; the other sink took those that were passed on to it, unchanged and packet by packet."""

    def __init__(self, sink: Sink, wrong: Wrong) -> None:
        self._sink = sink
        self._wrong = wrong
        self.tick = min(TICK, sink.tick or TICK)
        self._packets: Packets | None = None
        self._living: Living
        self._clock = EventClock()
        self._went_wrong: dict[int, None] = {}  # numbers of packets; the first one is the oldest
        self._taken = self._passed_on = 0  # events
        self.kept = 0  # packets

    def open(self) -> None:
        self._sink.open()

    def begin(self, source: Source) -> None:
        names, wrong = source.names, self._wrong
        self._living = living = Living(source.schema, names, source.lives)
        if wrong.stuck and not living.known:
            raise PwruError("`only`: it cannot be known what is stuck, since not every end of a packet was traced")
        patience = IDLE if wrong.stuck or not names.sees_ends else PATIENCE
        self._packets = Packets(source.schema, names, source.numbers, idle=max(patience, 2 * wrong.slower))
        self._sink.begin(cast("Source", _Chosen(source)))

    def write(self, records: list[Record]) -> int:
        assert self._packets
        if not records:
            return 0
        self._clock.set(records[-1][5])  # type: ignore[arg-type]  # Packets demands that records have times
        self._taken += len(records)
        return self._pass_on(self._packets.add(records))

    def idle(self) -> None:
        assert self._packets
        self._pass_on(self._packets.sweep(self._clock.now()))
        self._sink.idle()

    def ending(self) -> None:
        self._sink.ending()

    def flush(self) -> None:
        assert self._packets
        self._pass_on(self._packets.drain())
        self._sink.flush()
        self._count()

    def finish(self, account: Account) -> None:
        self._sink.finish(self._kept(account))

    def account(self, account: Account) -> str:
        """The other sink does not know what waits: it got what waits only once that was known to be stuck."""
        return self._sink.account(self._kept(account))

    def _kept(self, account: Account) -> Account:
        given_up = self._packets.evicted if self._packets else 0
        counts = account._replace(only=True, kept=self.kept, kept_events=self._sink.events, given_up=given_up)
        return counts._replace(living=frozenset())

    def close(self) -> None:
        self._sink.close()

    @property
    def failure(self) -> PwruError | None:
        return self._sink.failure

    def reopen(self) -> None:
        self._sink.reopen()

    @property
    def reader(self) -> int | None:
        return self._sink.reader

    def give_up_after(self, stop_fd: int) -> None:
        self._sink.give_up_after(stop_fd)

    def _pass_on(self, ways: list[Way]) -> int:
        """Return how many records the other sink gave up."""
        records: list[Record] = []
        now = self._clock.now()
        for way in ways:
            if self._wrong.is_true_of(way, now, self._living):
                if way.number not in self._went_wrong:
                    self.kept += 1
                    self._remember(way.number)
            elif not (way.continues and way.number in self._went_wrong):
                continue
            records += way.records
        given_up = self._sink.write(records) if records else 0
        self._passed_on += len(records)
        self._count()
        return given_up

    def _remember(self, number: int) -> None:
        if len(self._went_wrong) >= _REMEMBERED:
            del self._went_wrong[next(iter(self._went_wrong))]
        if number:
            self._went_wrong[number] = None

    def _count(self) -> None:
        assert self._packets
        self.events = self._taken - (self._passed_on - self._sink.events)
        self.packets, self.not_followed = self._packets.begun, self._packets.not_followed
