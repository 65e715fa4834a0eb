"""Lines: a format for each event, written to a stream. The formats share the loop and the caches that make it fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pwru.errors import printable
from pwru.sinks import Sink, Source
from pwru.sinks.time import CLOCKS

if TYPE_CHECKING:
    from pwru.record.account import Account
    from pwru.record.event import Task
    from pwru.record.names import Function, Names
    from pwru.record.schema import Record, Schema
    from pwru.sinks.details import Details
    from pwru.sinks.stream import Stream

# The text of distinct runs of bytes is kept, and all of it is forgotten at this size: a trace can go on for days.
CACHE_LIMIT = 1 << 13
SKB_LIMIT = 1 << 18  # the skbs that are known to be on their way, at most: 25 MB

K = TypeVar("K")


class Cache(dict[K, str], Generic[K]):
    """The text of a key, made on the first look-up."""

    def __init__(self, make: Callable[[K], str]) -> None:
        self._make = make

    def __missing__(self, key: K) -> str:
        text = self._make(key)  # first, since it may clear this cache
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[key] = text
        return text


class Skbs(Cache[int]):
    """The text of each skb. Counts packets: an address counts again once its skb has come to its end.

    Beyond SKB_LIMIT the skb that was not seen for longest is forgotten; it counts again if it is seen after all.
    """

    def __init__(self, make: Callable[[int], str], begin: str = "") -> None:
        """`begin` precedes the text at the first event of a packet."""
        super().__init__(make)
        self._begin = begin
        self._on_their_way: dict[int, None] = {}
        self.count = 0

    def __missing__(self, skb: int) -> str:
        text = self._make(skb)
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[skb] = text
        on_their_way = self._on_their_way
        if skb in on_their_way:
            del on_their_way[skb]  # and in again at the end: the first is the one that was not seen for longest
            on_their_way[skb] = None
            return text
        if len(on_their_way) >= SKB_LIMIT:
            del on_their_way[next(iter(on_their_way))]
        on_their_way[skb] = None
        self.count += 1
        return self._begin + text

    def end(self, skb: int) -> None:
        """The skb is freed."""
        self.pop(skb, None)
        self._on_their_way.pop(skb, None)


class NetnsNames:
    """Names of network namespaces, looked up once a second and for each new one: they come and go."""

    def __init__(self, look: Callable[[], Mapping[int, str]]) -> None:
        self._look = look
        self._names: Mapping[int, str] = {}
        self._before: Mapping[int, str] = {}  # a second ago at most
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


class LineStyle(NamedTuple):
    """What lines have beyond the parts of the schema. Widths are in characters.

    `timestamp` is a key of CLOCKS or "none". `netns_names` is the width of the names of namespaces, 0 for none. `width`
    is that of a terminal, 0 for lines of any length; it and `color` are for text only.
    """

    timestamp: str = "none"
    netns_names: int = 0
    caller: bool = False
    color: bool = False
    width: int = 0


class Format(ABC):
    """Turns records into lines. A line is a few look-ups: what repeats along a packet's way is formatted once.

    A line is the texts that skb(), task(), packet() and function() return, one after the other, and `end`. With a
    clock, time() precedes all of it or packet(); tail() and details() precede `end`.
    """

    end: ClassVar[str]
    first_event = ""
    time_first = False  # whether the time precedes all else, with the kernel's clock in its usual place
    time_end = " "

    def __init__(self, schema: Schema, names: Names, style: LineStyle = LineStyle()) -> None:  # noqa: B008  (a constant)
        self.schema = schema
        self.names = names
        self.style = style
        self.clock = CLOCKS[style.timestamp]() if style.timestamp != "none" else None
        self.netns_names = NetnsNames(names.netns) if style.netns_names else None
        self.more: Details | None = None
        if schema.has_details:
            from pwru.sinks.details import Details

            self.more = Details(schema, names)
        self._skbs = Skbs(self.skb, self.first_event)
        self._tasks = Cache[bytes](lambda raw: self.task(schema.task(raw)))
        self.packet_texts = Cache[bytes](lambda raw: self.packet(schema.packet(raw)))
        self.function_texts = Cache(self._function)
        self._tails = Cache[bytes](lambda raw: self.tail(schema.packet(raw)))
        self._last: set[bytes] = set()  # the hits at functions that an skb passes last, as bytes
        self._generation = names.generation
        plain = not (self.clock or self.more or "tunnel" in schema.parts)
        self.lines: Callable[[list[Record]], str] = self._plain if plain else self._full

    @property
    def packets(self) -> int:
        return self._skbs.count

    def header(self) -> str:
        return ""

    def events(self, records: list[Record]) -> str:
        """Return the lines for these records, one each, with their line ends."""
        if self._generation != self.names.generation:
            self._generation = self.names.generation
            self.function_texts.clear()
        if self.netns_names and self.netns_names.changed():
            self.packet_texts.clear()
        return self.lines(records)

    def _plain(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions = self._skbs, self._tasks, self.packet_texts, self.function_texts
        last, end = self._last, self.end
        lines = []
        for skb, task, hit, packet, _, _ in records:
            lines.append(f"{skbs[skb]}{tasks[task]}{packets[packet]}{functions[hit]}{end}")
            if hit in last:
                skbs.end(skb)
        return "".join(lines)

    def _full(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions = self._skbs, self._tasks, self.packet_texts, self.function_texts
        tails, details, last, end = self._tails, self.details, self._last, self.end
        clock, time_first = self.clock, self.time_first
        lines = []
        for skb, task, hit, packet, ns, rest in records:
            time = self.time(clock(skb, ns)) if clock else ""  # type: ignore[arg-type]
            first, then = (time, f"{ns!s:<16}{self.time_end}") if time_first else ("", time)
            lines.append(
                f"{first}{skbs[skb]}{tasks[task]}{then}{packets[packet]}{functions[hit]}"
                f"{tails[packet]}{details(rest)}{end}"
            )
            if hit in last:
                skbs.end(skb)
                if clock:
                    clock.forget(skb)
        return "".join(lines)

    def _function(self, raw: bytes) -> str:
        hit = self.schema.hit(raw)
        if hit.addr in self.names.last:
            if len(self._last) >= CACHE_LIMIT:
                self._last.clear()
                self.function_texts.clear()  # a cached text would never reach this code again
            self._last.add(raw)
        return self.function(self.names.function(hit))

    @staticmethod
    def account(account: Account) -> str:
        return account.text()

    @abstractmethod
    def skb(self, address: int) -> str: ...

    @abstractmethod
    def task(self, task: Task) -> str: ...

    @abstractmethod
    def packet(self, parts: Mapping[str, Any]) -> str: ...

    @abstractmethod
    def function(self, function: Function) -> str: ...

    @abstractmethod
    def time(self, moment: int | str) -> str: ...

    def tail(self, parts: Mapping[str, Any]) -> str:
        """Return what follows function() of a packet."""
        return ""

    def details(self, raw: bytes) -> str:
        """Return what hardly ever repeats, and so is not kept."""
        return self.more.text(raw) if self.more else ""


class Lines(Sink):
    """A format and the stream that its lines go to."""

    def __init__(self, form: type[Format], stream: Stream, style: LineStyle) -> None:
        self._make = form
        self._stream = stream
        self._style = style
        self._format: Format | None = None

    def open(self) -> None:
        self._stream.open()

    def begin(self, source: Source) -> None:
        self._format = self._make(source.schema, source.names, self._style)
        self._stream.begin(self._format.header())

    def write(self, records: list[Record]) -> int:
        assert self._format
        given_up = self._stream.write(self._format.events(records))
        self.events += len(records) - given_up
        self.packets = self._format.packets
        return given_up

    def account(self, account: Account) -> str:
        return self._make.account(account)

    def close(self) -> None:
        self._stream.close()

    @property
    def reader(self) -> int | None:
        return self._stream.fd

    def give_up_after(self, stop_fd: int) -> None:
        self._stream.give_up_after(stop_fd)
