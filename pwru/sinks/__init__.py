"""Where the events of a source go: lines of text or JSON, to standard output or to files that give way to new ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pwru.errors import PwruError
    from pwru.events.selected import Selected
    from pwru.record.about import About
    from pwru.record.account import Account
    from pwru.record.follow import Numbers
    from pwru.record.names import Names
    from pwru.record.schema import Record, Schema
    from pwru.sinks.stream import Stream


class Source(Protocol):
    """What a sink has to know of where the records come from: a live session, a file, a list in a test."""

    @property
    def schema(self) -> Schema: ...

    @property
    def names(self) -> Names: ...

    def lives(self, skb: int, instance: int) -> bool | None:
        """Return whether an skb that is followed has not ended, by its address and number; None: nobody knows."""

    @property
    def about(self) -> About:
        """What the run is."""

    @property
    def numbers(self) -> Numbers:
        """Gives the packets that are followed their numbers: the same ones, whoever asks."""


class Sink(ABC):
    """Takes the records of one source: open(), begin(), write() for each batch; close() whatever happened."""

    events, packets, not_followed = 0, 0, 0  # how many it took so far; the last are packets, too
    takes_columns = False  # write_columns() works, and is faster than write()
    tick: float | None = None  # idle() is to be called so often, in seconds, also when no events come

    @abstractmethod
    def open(self) -> None:
        """Open what the records go to. Raises PwruError if that is impossible."""

    @abstractmethod
    def begin(self, source: Source) -> None:
        """Write what precedes the first record."""

    @abstractmethod
    def write(self, records: list[Record]) -> int:
        """Take a batch; return how many records it gave up, the last ones: nobody takes them."""

    def write_columns(self, selected: Selected) -> int:
        """Take the events of a chunk; return how many it gave up."""
        raise NotImplementedError

    def idle(self) -> None:  # noqa: B027  (most sinks have nothing to do)
        """Do what is due by now."""

    def ending(self) -> None:  # noqa: B027  (most sinks do not care)
        """Tell that the trace ends now: what comes after that has come before it. Later calls tell nothing."""

    def flush(self) -> None:  # noqa: B027  (most sinks hold nothing back)
        """Write what is held back: nothing more comes."""

    def finish(self, account: Account) -> None:  # noqa: B027  (most sinks write events only)
        """Write what is to be said of the whole trace, and end."""

    @abstractmethod
    def account(self, account: Account) -> str:
        """Return the account of the whole trace in the form that goes with the output."""

    @abstractmethod
    def close(self) -> None:
        """Release what begin() opened. May be called at any time, more than once."""

    @property
    def failure(self) -> PwruError | None:
        """Why records were given up, if they could not be written."""
        return None

    def reopen(self) -> None:  # noqa: B027  (most sinks have no file)
        """Go on in the file that has the name now: somebody has moved this one away."""

    @property
    def reader(self) -> int | None:
        """A descriptor that polls with an error once whoever reads has gone; None if nobody can."""
        return None

    def give_up_after(self, stop_fd: int) -> None:  # noqa: B027  (most sinks wait for nobody)
        """Do not wait long for a slow reader once `stop_fd` is readable."""


class StreamSink(Sink):
    """A sink that writes to one stream, which says who reads, and why nothing can be written."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def open(self) -> None:
        self.stream.open()

    def close(self) -> None:
        self.stream.close()

    @property
    def failure(self) -> PwruError | None:
        return self.stream.failure

    def reopen(self) -> None:
        self.stream.reopen()

    @property
    def reader(self) -> int | None:
        return self.stream.fd

    def give_up_after(self, stop_fd: int) -> None:
        self.stream.give_up_after(stop_fd)
