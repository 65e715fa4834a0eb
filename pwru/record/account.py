"""The account of a trace: every hit is a line, lost, or not printed."""

from typing import NamedTuple

_WAITING_MOST = 10  # are listed in the text


class Waiting(NamedTuple):
    """An skb that still lived at the end, and was last seen `seconds` before it, in the function `place`.

    `packet` and `instance` are the numbers of record.follow; `name` is what they are called in text.
    """

    packet: int
    instance: int
    seconds: float
    place: str
    name: str


class Account(NamedTuple):
    """Numbers at the end of a trace.

    `hits` matched the filters. `full` and `busy` of them are lost: the ring buffer had no room, or was locked by other
    CPUs. `missed` are hits at which the kernel did not run the program, whatever the packet was. `events` were taken by
    the sink, of `packets` skbs, or more unless the trace `sees_ends` of packets: an skb whose end was not seen may have
    become that of the next packet; 0 packets with some events: nobody counted. `at_limit`: the trace ended because it
    had as many events as it was to have; `reader_gone`: because nobody reads them any more; `unwritable`: because the
    output takes no more.

    If the run follows packets, up to `follow_limit` skbs at a time: of `packets` so many were `not_followed` from their
    beginning, and `no_room` skbs that were made from followed ones never. `ends_unseen`: skbs whose address came up
    with another packet while they were followed. `no_stack`: functions of followed packets whose frames on the kernel
    stack could not be noted. `living`: the instances that are followed still, as the kernel numbers them. `waiting`:
    who of them was not seen for long; it counts only if nothing was lost, since its last event may have been.

    If `only` packets that go wrong were wanted: so many of `packets` were `kept`, with `kept_events` of `events`, and
    `given_up` others could not be held until it was known.
    """

    hits: int
    full: int
    busy: int
    missed: int
    ring_buffer_size: int
    events: int = 0
    packets: int = 0
    at_limit: bool = False
    sees_ends: bool = False
    reader_gone: bool = False
    unwritable: bool = False
    follow_limit: int = 0
    not_followed: int = 0
    no_room: int = 0
    ends_unseen: int = 0
    no_stack: int = 0
    living: frozenset[int] = frozenset()
    waiting: tuple[Waiting, ...] = ()
    only: bool = False
    kept: int = 0
    kept_events: int = 0
    given_up: int = 0

    @property
    def not_printed(self) -> int:
        return self.hits - self.full - self.busy - self.events

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that somebody wanted."""
        unread = self.reader_gone or self.not_printed
        followed = not (self.not_followed or self.no_room or self.no_stack or self.given_up)
        return self._lossless and followed and (self.at_limit or not unread)

    @property
    def packets_exact(self) -> bool:
        """Whether there were no more packets than `packets`."""
        by_number = self.follow_limit and not self.not_followed
        return bool(by_number or self.sees_ends) and self._lossless

    @property
    def _lossless(self) -> bool:
        return not (self.full or self.busy or self.missed)

    def printed(self, *, as_json: bool) -> str:
        return self.json() if as_json else self.text()

    def json(self) -> str:
        import json

        lost = {"ring_buffer_full": self.full, "ring_buffer_busy": self.busy, "probe_missed": self.missed}
        packets = {"packets": self.packets, "packets_exact": self.packets_exact}
        account = {"events": self.events, **packets, "lost": lost, "not_printed": self.not_printed}
        if self.only:
            account["kept"] = {"packets": self.kept, "events": self.kept_events, "given_up": self.given_up}
        if self.follow_limit:
            account |= {"not_followed": self.not_followed, "skbs_not_followed": self.no_room}
            account |= {"ends_unseen": self.ends_unseen, "frames_not_followed": self.no_stack}
            waiting = self.waiting if self._lossless else ()
            account["waiting"] = [
                {"packet": w.packet, "instance": w.instance, "seconds": round(w.seconds, 1), "place": w.place}
                for w in waiting
            ]
        return json.dumps(account)

    def text(self) -> str:
        """Return one line, and one more for each of those that wait."""
        least = "" if self.packets_exact or self.packets == self.events else "at least "
        packets = f"{least}{_counted(self.packets, 'packet')}"
        of_packets = f" of {packets}" if self.packets or not self.events else ""
        text = f"{_counted(self.events, 'event')}{of_packets}, {self.full + self.busy} lost"
        if self.full:
            size = self.ring_buffer_size >> 10
            text += (
                f" (the ring buffer of {size}K was full: a narrower filter or a larger `ring_buffer_size` loses less)"
            )
        if self.busy:
            text += f" ({self.busy} of them because the ring buffer was locked by another CPU)"
        if self.missed:
            text += f", {_counted(self.missed, 'probe hit')} missed (that CPU was running BPF code or another probe)"
        if self.not_printed:
            why = "(whoever reads the output did not take them in time)"
            if self.reader_gone:
                why = "(whoever read the output has gone)"
            if self.unwritable:
                why = "(the output could not be written)"
            if self.at_limit:
                why = "after the limit"
            text += f", {self.not_printed} not printed {why}"
        return "\n".join([f"{text}{self._not_followed()}{self._kept()}", *self._waits()])

    def _kept(self) -> str:
        if not self.only:
            return ""
        text = f"; {_counted(self.kept, 'packet')} went wrong, with {_counted(self.kept_events, 'event')}"
        if self.given_up:
            text += f", {_counted(self.given_up, 'packet')} could not be held until it was known"
        return text

    def _not_followed(self) -> str:
        lost = []
        if self.not_followed:
            lost.append(_counted(self.not_followed, "packet"))
        if self.no_room:
            lost.append(f"{_counted(self.no_room, 'skb')} of other packets")
        text = ""
        if lost:
            were = "was" if self.not_followed + self.no_room == 1 else "were"
            text = f", {' and '.join(lost)} {were} not followed: room for {self.follow_limit}"
            text += " (`follow_limit` makes more)"
        if self.no_stack:
            text += f", {_counted(self.no_stack, 'frame')} on kernel stacks could not be noted"
        if self.ends_unseen:
            text += f", the ends of {_counted(self.ends_unseen, 'skb')} were not seen"
        return text

    def _waits(self) -> list[str]:
        waiting = self.waiting if self._lossless else ()
        lines = [f"{w.name} was last seen {int(w.seconds)} s ago in {w.place}" for w in waiting[:_WAITING_MOST]]
        more = len(waiting) - len(lines)
        return [*lines, f"and {more} more"] if more else lines


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
