"""Several sinks that take the same records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pwru.sinks import Sink, Source

if TYPE_CHECKING:
    from pwru.errors import PwruError
    from pwru.record.account import Account
    from pwru.record.schema import Record


class Tee(Sink):
    """Took what all of its sinks took: one that gives up records ends the trace for all."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        """The account and the reader are those of the first sink; `sinks` are not empty."""
        self._sinks = sinks
        self.tick = min((sink.tick for sink in sinks if sink.tick is not None), default=None)

    def open(self) -> None:
        for sink in self._sinks:
            sink.open()

    def begin(self, source: Source) -> None:
        for sink in self._sinks:
            sink.begin(source)

    def write(self, records: list[Record]) -> int:
        given_up = max([sink.write(records) for sink in self._sinks])
        self._count()
        return given_up

    def _count(self) -> None:
        self.events = min(sink.events for sink in self._sinks)
        knows = max(self._sinks, key=lambda sink: sink.packets)  # lines may be without what tells packets apart
        self.packets, self.not_followed = knows.packets, knows.not_followed

    def idle(self) -> None:
        for sink in self._sinks:
            sink.idle()

    def ending(self) -> None:
        for sink in self._sinks:
            sink.ending()

    def flush(self) -> None:
        for sink in self._sinks:
            sink.flush()
        self._count()

    def finish(self, account: Account) -> None:
        for sink in self._sinks:
            sink.finish(account)

    def account(self, account: Account) -> str:
        return self._sinks[0].account(account)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    @property
    def failure(self) -> PwruError | None:
        return next((sink.failure for sink in self._sinks if sink.failure), None)

    def reopen(self) -> None:
        for sink in self._sinks:
            sink.reopen()

    @property
    def reader(self) -> int | None:
        return self._sinks[0].reader

    def give_up_after(self, stop_fd: int) -> None:
        for sink in self._sinks:
            sink.give_up_after(stop_fd)
