"""The account of a trace: every hit is a line, lost, or not printed."""

from typing import NamedTuple


class Account(NamedTuple):
    """Numbers at the end of a trace.

    `hits` matched the filters. `full` and `busy` of them are lost: the ring buffer had no room, or was locked by other
    CPUs. `missed` are hits at which the kernel did not run the program, whatever the packet was. `events` were taken by
    the sink, of `packets` skbs. `at_limit`: the trace ended because it had as many events as it was to have.
    """

    hits: int
    full: int
    busy: int
    missed: int
    ring_buffer_size: int
    events: int = 0
    packets: int = 0
    at_limit: bool = False

    @property
    def not_printed(self) -> int:
        return self.hits - self.full - self.busy - self.events

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that somebody wanted."""
        return not (self.full or self.busy or self.missed) and (self.at_limit or not self.not_printed)

    def json(self) -> str:
        import json

        lost = {"ring_buffer_full": self.full, "ring_buffer_busy": self.busy, "probe_missed": self.missed}
        account = {"events": self.events, "packets": self.packets, "lost": lost, "not_printed": self.not_printed}
        return json.dumps(account)

    def text(self) -> str:
        def counted(count: int, what: str) -> str:
            return f"{count} {what}{'s' * (count != 1)}"

        text = f"{counted(self.events, 'event')} of {counted(self.packets, 'packet')}, {self.full + self.busy} lost"
        if self.full:
            size = self.ring_buffer_size >> 10
            text += (
                f" (the ring buffer of {size}K was full: a narrower filter or a larger `ring_buffer_size` loses less)"
            )
        if self.busy:
            text += f" ({self.busy} of them because the ring buffer was locked by another CPU)"
        if self.missed:
            text += f", {counted(self.missed, 'probe hit')} missed (the kernel runs no program inside another)"
        if self.not_printed:
            why = "after the limit" if self.at_limit else "(whoever reads the output has stopped)"
            text += f", {self.not_printed} not printed {why}"
        return text
