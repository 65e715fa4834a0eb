"""What becomes of events: what all formats share. A module for each format, and one for where the lines go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from pwru.errors import printable
from pwru.sinks.terminal import Look

if TYPE_CHECKING:
    from pwru.record.event import Decoder, Function, Packet, Record, Symbolize, Task
    from pwru.sinks.details import Describe
    from pwru.sinks.time import Clock

# What is kept per distinct run of bytes is bounded by forgetting all of it: a trace can go on for days.
CACHE_LIMIT = 1 << 13

K = TypeVar("K")


class Cache(dict[K, str], Generic[K]):
    """Text by what it was made of; made on the first look-up. `made` counts how often that was."""

    def __init__(self, make: Callable[[K], str]) -> None:
        self._make = make
        self.made = 0

    def __missing__(self, key: K) -> str:
        # First, since it may clear this cache.
        text = self._make(key)
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[key] = text
        self.made += 1
        return text


class NetnsNames:
    """Names of network namespaces, looked up again once a second, and for each that is new: they come and go."""

    def __init__(self, look: Callable[[], dict[int, str]], width: int) -> None:
        self.width = width
        self._look = look
        self._names: dict[int, str] = {}
        self._before: dict[int, str] = {}  # a second ago at most
        self._unnamed: set[int] = set()  # looked for in vain since then
        self._until = 0.0

    def changed(self) -> bool:
        now = monotonic()
        if now < self._until:
            return False
        self._until = now + 1
        before, self._before = self._before, self._look()
        self._names = self._before
        self._unnamed.clear()
        return before != self._before

    def get(self, inode: int) -> str | None:
        if inode not in self._names and inode not in self._unnamed:
            self._names = self._look()  # it may be new
            self._unnamed.add(inode)
        name = self._names.get(inode)
        return printable(name) if name is not None else None


class Extras(NamedTuple):
    """What a run wants beyond the default columns. `more` is about the details, if records have any."""

    clock: Clock | None = None
    netns_names: NetnsNames | None = None
    more: Describe | None = None
    caller: bool = False
    look: Look = Look()  # of text


class Format(ABC):
    """Turns events into lines. A line is a few look-ups: what repeats along a packet's way is formatted once.

    A line is the texts that skb(), task(), packet() and function() return, one after the other, and the end. With
    a clock, time() stands in front of it or in front of packet(); with details, details() before the end.
    """

    end: ClassVar[str]
    # Whether the time stands in front of all else, and in its place what the kernel's clock said.
    time_first = False
    time_end = " "

    def __init__(
        self,
        decoder: Decoder,
        symbolize: Symbolize,
        last: Collection[int] = (),
        extras: Extras = Extras(),  # noqa: B008  (a constant)
    ) -> None:
        """`last`: what `Where.addr` is of the functions that are the last that an skb passes."""
        self._skbs = Cache(self.skb)
        self._tasks = Cache[bytes](lambda run: self.task(decoder.task(run)))
        self._packets = Cache[bytes](lambda run: self.packet(decoder.packet(run)))
        self._functions = Cache(self._function)
        self._decoder = decoder
        self._symbolize = symbolize
        self._last_addresses = last
        self.clock, self.netns_names, self.more, self.caller, _ = extras
        self._tails = Cache[bytes](lambda run: self.tail(decoder.packet(run)))
        # The runs of bytes that say that an event is at one of `last`.
        self._last: set[bytes] = set()

    @property
    def packets(self) -> int:
        """How many packets there were so far: an skb's address that is used again counts again."""
        return self._skbs.made

    def header(self) -> str:
        return ""

    def events(self, records: list[Record]) -> str:
        """The lines for these records, one each, with their line ends."""
        if self.netns_names and self.netns_names.changed():
            self._packets.clear()
        if self._decoder.full:
            return self._in_full(records)
        skbs, tasks, packets, functions, last = self._skbs, self._tasks, self._packets, self._functions, self._last
        end = self.end
        lines = []
        for skb, task, where, packet in records:
            lines.append(f"{skbs[skb]}{tasks[task]}{packets[packet]}{functions[where]}{end}")
            if where in last:
                skbs.pop(skb, None)
        return "".join(lines)

    def _in_full(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions, last = self._skbs, self._tasks, self._packets, self._functions, self._last
        clock, time_first, tails, details, end = self.clock, self.time_first, self._tails, self.details, self.end
        lines = []
        for skb, task, where, packet, ns, rest in records:
            time = self.time(clock(skb, ns)) if clock else ""
            first, then = (time, f"{ns:<16}{self.time_end}") if time_first else ("", time)
            lines.append(
                f"{first}{skbs[skb]}{tasks[task]}{then}{packets[packet]}{functions[where]}"
                f"{tails[packet]}{details(rest)}{end}"
            )
            if where in last:
                skbs.pop(skb, None)
                if clock:
                    clock.forget(skb)
        return "".join(lines)

    def forget_functions(self) -> None:
        """What addresses mean has changed: there are other modules."""
        self._functions.clear()

    def _function(self, run: bytes) -> str:
        where = self._decoder.where(run)
        if where.addr in self._last_addresses:
            if len(self._last) >= CACHE_LIMIT:
                self._last.clear()
                self._functions.clear()  # whoever is in there is not asked again
            self._last.add(run)
        return self.function(self._symbolize(where))

    @abstractmethod
    def skb(self, address: int) -> str: ...

    @abstractmethod
    def task(self, task: Task) -> str: ...

    @abstractmethod
    def packet(self, packet: Packet) -> str: ...

    @abstractmethod
    def function(self, function: Function) -> str: ...

    @abstractmethod
    def time(self, moment: int | str) -> str: ...

    @abstractmethod
    def tail(self, packet: Packet) -> str:
        """What of a packet stands behind function()."""

    def details(self, run: bytes) -> str:
        """What hardly ever repeats, and so is not kept."""
        return self.more.text(run) if self.more else ""
