"""A live trace for scripts: an iteration over typed events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pwru.events.source import EventSource
from pwru.filter.packet import Filter
from pwru.live.request import Request
from pwru.live.session import Session
from pwru.record.account import Account
from pwru.record.event import Event

if TYPE_CHECKING:
    from pwru.events.selected import Selected
    from pwru.record.about import About
    from pwru.record.schema import Record

# The handler of a signal may run this much later, in seconds. One that arrives just before epoll_wait(2), or is
# delivered to another thread, does not end that call: signal(7), and "Execution of Python signal handlers".
_PATIENCE = 0.5


class Events(EventSource):
    """`with Events(request) as events:` attaches; `for event in events:` waits for each event.

    The loop ends after stop(), once all events from before have come. Leaving the `with` block detaches; no descriptor,
    thread or child process is left, and nothing in the kernel. No signal handler changes. One thread iterates; stop()
    may be called from any, and from a signal handler.
    """

    def __init__(self, request: Request) -> None:
        """Raises PwruError if the request cannot be carried out here, as does every method."""
        self._session = Session(request, patience=_PATIENCE)
        self._batch: deque[Record] = deque()
        self._account: Account | None = None
        self._about: About | None = None

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._session.detach()
            self._account = self.account
            self._about = self._session.about
        finally:
            self._session.close()

    def __iter__(self) -> Iterator[Event]:
        schema, names = self._session.schema, self._session.names
        while True:
            while self._batch:  # what an earlier loop left of it, too
                yield schema.event(self._batch.popleft(), names)
            records = self._session.read()
            if records is None:
                return
            self._batch.extend(records)

    def batches(self) -> Iterator[list[Record]]:
        while True:
            if self._batch:
                records = list(self._batch)
                self._batch.clear()
                yield records
            more = self._session.read()
            if more is None:
                return
            self._batch.extend(more)

    def columns(self) -> Iterator[Selected]:
        from pwru.events.selected import Numbering

        numbering = Numbering(self.schema, self.numbers)
        for records in self.batches():
            yield numbering.all_of(records, self.names.clock_offset())

    @property
    def source(self) -> Session:
        return self._session

    @property
    def about(self) -> About:
        return self._about or self._session.about

    def stop(self) -> None:
        """End the trace: what has come before is still delivered."""
        self._session.stop()

    @property
    def account(self) -> Account:
        """What was lost so far; after the `with` block, at its end. `events` are those that were read."""
        delivered = self._session.delivered - len(self._batch)
        return self._account or self._session.account._replace(events=delivered)


def trace(
    filter: str = "",
    *,
    functions: str | None = None,
    netns: str | None = None,
    ifname: str | None = None,
    pid: int = 0,
    comm: str | None = None,
    skb_expr: str | None = None,
    drop_reasons: Sequence[str] = (),
    modules: Sequence[str] = (),
    backend: str | None = None,
    parts: Sequence[str] | Mapping[str, int] = ("meta", "tuple"),
    skb_metadata: Sequence[str] = (),
    follow: bool = False,
    tcp_flags: bool = False,
) -> Events:
    """Trace packets through this kernel: `with trace("icmp", functions="ip_rcv") as events: …`.

    `filter` is a pcap-filter(7). With `follow`, events have the part `follow`: which packet they are of, whatever
    becomes of it. `parts` are what events have, by name (record.parts.PARTS); those without a size of their own, such
    as `payload`, need one: {"meta": 0, "payload": 64}. All else is as in Request. It takes the privileges of the
    command. Raises PwruError.
    """

    def listed(names: Sequence[str]) -> tuple[str, ...]:
        return (names,) if isinstance(names, str) else tuple(names)

    wanted = dict(parts) if isinstance(parts, Mapping) else dict.fromkeys(listed(parts), 0)
    if follow:
        wanted["follow"] = 0
    request = Request(
        filter=Filter(filter),
        functions=functions,
        netns=netns,
        ifname=ifname,
        pid=pid,
        comm=comm,
        skb_expr=skb_expr,
        drop_reasons=listed(drop_reasons),
        modules=listed(modules),
        backend=backend,
        parts=wanted,
        skb_metadata=listed(skb_metadata),
        follow=follow,
        tcp_flags=tcp_flags,
    )
    return Events(request)
