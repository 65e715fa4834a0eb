"""A recording for scripts: the same typed events, packets and tables that a live trace gives."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from pwru.errors import PwruError
from pwru.events.source import EventSource
from pwru.filter.packet import Filter
from pwru.record.account import Account
from pwru.replay.moments import Span, span
from pwru.replay.source import STDIN, Replay
from pwru.replay.wanted import Wanted

if TYPE_CHECKING:
    from pwru.events.selected import Selected
    from pwru.record.event import Event
    from pwru.record.schema import Record

Path = str | os.PathLike[str]


class Recorded(EventSource):
    """The wanted events of a recording, from its beginning each time that they are asked for.

    A recording that is cut or damaged gives all that precedes the damage, and then a warning; `damage` keeps it.
    """

    def __init__(self, paths: Sequence[str], wanted: Wanted) -> None:
        """Raises PwruError if it is no recording."""
        self._paths, self._wanted = paths, wanted
        self._test: Callable[..., bool] | None = None
        if wanted.filter:
            from pwru.replay.packets import packet_test

            self._test = packet_test(wanted.filter)
        self._replay = Replay(paths)
        self._delivered = 0
        self._fresh = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._replay.close()

    def __iter__(self) -> Iterator[Event]:
        for records in self.batches():
            schema, names = self.schema, self.names
            for record in records:
                yield schema.event(record, names)

    def batches(self) -> Iterator[list[Record]]:
        for records in self._begin().read(self._wanted, self._test):
            self._delivered += len(records)
            if records:
                yield records
        self._end()

    def columns(self) -> Iterator[Selected]:
        for selected in self._begin().columns(self._wanted, self._test):
            self._delivered += selected.events
            yield selected
        self._end()

    def _begin(self) -> Replay:
        if not self._fresh:
            if STDIN in self._paths:
                raise PwruError("standard input can be read once")
            self._replay.close()
            self._replay = Replay(self._paths)
        self._fresh, self._delivered = False, 0
        return self._replay

    def _end(self) -> None:
        self._replay.close()
        if self._replay.damage:
            warnings.warn(str(self._replay.damage), stacklevel=3)

    @property
    def source(self) -> Replay:
        return self._replay

    @property
    def damage(self) -> PwruError | None:
        """What is wrong with the recording, as far as it has been read."""
        return self._replay.damage

    @property
    def account(self) -> Account:
        """The account of the trace, known at the end of the recording; `events` are those that were wanted."""
        return self._replay.account_of(self._delivered)


def open(
    path: Path | Sequence[Path],
    filter: str = "",
    *,
    functions: str | None = None,
    netns: str | None = None,
    ifname: str | None = None,
    pid: int = 0,
    comm: str | None = None,
    drop_reasons: Sequence[str] = (),
    packets: Collection[int] = (),
    span: str = "",
    follow: bool = True,
) -> Recorded:
    """Open a recording: `with open("trace.pwru", "icmp") as events: …`.

    `path`: a file, a pattern for all files of a run, or several of either; "-" is standard input. `filter` is a
    pcap-filter(7), for the bytes that were recorded. `packets` are numbers, `span` is BEGIN..END. With `follow` a
    packet that matches once is wanted from there on. All else is as in trace(). Raises PwruError.
    """
    paths = [os.fspath(each) for each in ([path] if isinstance(path, str | os.PathLike) else path)]
    wanted = Wanted(
        filter=Filter(filter),
        functions=functions,
        netns=netns,
        ifname=ifname,
        pid=pid,
        comm=comm,
        drop_reasons=(drop_reasons,) if isinstance(drop_reasons, str) else tuple(drop_reasons),
        packets=frozenset(packets),
        span=_span(span),
        follow=follow,
    )
    return Recorded(paths, wanted)


def _span(text: str) -> Span:
    return span(text) if text else Span()
