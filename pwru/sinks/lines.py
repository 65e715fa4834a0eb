"""Lines: a format for each event, written to a stream. The formats share the loop and the caches that make it fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pwru.errors import printable
from pwru.record.account import Waiting
from pwru.record.memo import CACHE_LIMIT, Memo
from pwru.sinks import Source, StreamSink
from pwru.sinks.skbs import Skbs, ignore
from pwru.sinks.time import CLOCKS

if TYPE_CHECKING:
    from pwru.record.account import Account
    from pwru.record.event import Task
    from pwru.record.follow import Numbers, Skb
    from pwru.record.names import Function, Names
    from pwru.record.parts import Follow
    from pwru.record.schema import Record, Schema
    from pwru.record.shown import Shown
    from pwru.sinks.details import Details
    from pwru.sinks.follow import Following
    from pwru.sinks.stream import Stream


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
    is that of a terminal, 0 for lines of any length; it, `color` and `packet_id` (which packet it is, if the run
    follows packets) are for text only.
    """

    timestamp: str = "none"
    netns_names: int = 0
    caller: bool = False
    color: bool = False
    width: int = 0
    packet_id: bool = False


class Format(ABC):
    """Turns records into lines. A line is a few look-ups: what repeats along a packet's way is formatted once.

    A line is the texts that skb(), task(), packet() and function() return, one after the other, and `end`. With a
    clock, time() precedes all of it or packet(); tail() and details() precede `end`. In a run that follows packets,
    the texts of follow() surround that of skb().
    """

    end: ClassVar[str]
    first_event = ""
    time_first = False  # whether the time precedes all else, with the kernel's clock in its usual place
    time_end = " "

    def __init__(
        self,
        schema: Schema,
        names: Names,
        style: LineStyle = LineStyle(),  # noqa: B008  (a constant)
        numbers: Numbers | None = None,
    ) -> None:
        """`numbers` are those of the source, if packets are followed."""
        self.schema = schema
        self.names = names
        self.style = style
        self.clock = CLOCKS[style.timestamp](names.clock_offset) if style.timestamp != "none" else None
        self.netns_names = NetnsNames(names.netns) if style.netns_names else None
        self.more: Details | None = None
        if schema.has_details:
            from pwru.sinks.details import Details

            self.more = Details(schema, names)
        self._skbs = Skbs(self.skb, self.first_event, self.clock.forget if self.clock else ignore)
        self._tasks = Memo[bytes, str](lambda raw: self.task(schema.task(raw)))
        self.packet_texts = Memo[bytes, str](lambda raw: self.packet(schema.packet(raw)))
        self.function_texts = Memo(self._function)
        self._tails = Memo[bytes, str](lambda raw: self.tail(schema.packet(raw)))
        self._releasing: dict[bytes, Mapping[str, bool]] = {}  # for a hit in such a function: see Skbs.released()
        self._generation = names.generation
        self.texts: list[str] = []  # of the last batch, one for each record
        self._is_plain = not (self.clock or self.more or "tunnel" in schema.parts)
        self.lines: Callable[[list[Record]], str] = self._plain if self._is_plain else self._full
        self._following: Following | None = None
        if "follow" in schema.parts:
            from pwru.sinks.follow import Following

            self._following = Following(schema.follow, self.follow, self._skbs, numbers)
            self._skb_texts = Memo(self.skb)
            self.lines = self._followed

    @property
    def packets(self) -> int:
        return self._skbs.count + (self._following.count if self._following else 0)

    @property
    def not_followed(self) -> int:
        """How many packets, of a run that follows packets, were not followed from their beginning."""
        return self._skbs.count if self._following else 0

    def waiting(self, end: float, living: Container[int]) -> tuple[Waiting, ...]:
        """Return who waits: see Following.waiting()."""
        if not self._following or not self.names.sees_ends:
            return ()
        return self._following.waiting(end, living, lambda hit: self.names.function(self.schema.hit(hit)).name)

    def packets_begun(self, records: list[Record]) -> int:
        """Return how many packets began with these records, which are the first of the last batch."""
        if self._following:
            return sum(line < len(records) for line in self._following.begun)
        begun = iter(self._skbs.begun)
        count, skb = 0, next(begun, None)
        for record in records:
            if record[0] == skb:
                count, skb = count + 1, next(begun, None)
        return count

    def header(self) -> str:
        return ""

    def events(self, records: list[Record]) -> str:
        """Return the lines for these records, one each, with their line ends."""
        if self._generation != self.names.generation:
            self._generation = self.names.generation
            self.function_texts.clear()
        if self.netns_names and self.netns_names.changed():
            self.packet_texts.clear()
        self._skbs.begun.clear()
        return self.lines(records)

    def _plain(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions = self._skbs, self._tasks, self.packet_texts, self.function_texts
        releasing, released, end = self._releasing, skbs.released, self.end
        lines = []
        for skb, task, hit, packet, _, _, _ in records:
            function = functions[hit]  # first: it may be found to release the skb
            text = released(skb, **releasing[hit]) if hit in releasing else skbs[skb]
            lines.append(f"{text}{tasks[task]}{packets[packet]}{function}{end}")
        self.texts = lines
        return "".join(lines)

    def _full(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions = self._skbs, self._tasks, self.packet_texts, self.function_texts
        tails, details, releasing, released, end = self._tails, self.details, self._releasing, skbs.released, self.end
        clock, time_first = self.clock, self.time_first
        lines = []
        for skb, task, hit, packet, _, ns, rest in records:
            function = functions[hit]
            text = released(skb, **releasing[hit]) if hit in releasing else skbs[skb]
            time = self.time(clock(skb, ns)) if clock else ""  # type: ignore[arg-type]
            first, then = (time, f"{ns!s:<16}{self.time_end}") if time_first else ("", time)
            lines.append(
                f"{first}{text}{tasks[task]}{then}{packets[packet]}{function}{tails[packet]}{details(rest)}{end}"
            )
        self.texts = lines
        return "".join(lines)

    def _followed(self, records: list[Record]) -> str:
        skbs, tasks, packets, functions = self._skbs, self._tasks, self.packet_texts, self.function_texts
        tails, details, releasing, released, end = self._tails, self.details, self._releasing, skbs.released, self.end
        clock, time_first, following, skb_texts = self.clock, self.time_first, self._following, self._skb_texts
        assert following is not None
        following.begun.clear()
        now, bold, plain = monotonic(), self.first_event, self._is_plain
        lines: list[str] = []
        for skb, task, hit, packet, follow, ns, rest in records:
            function = functions[hit]
            try:
                before, after, relation, known, begins = following[follow]
            except KeyError:
                before, after, relation, known, begins = following.see(follow, skb)
            if known:
                known.seen, known.hit = now, hit
                text = skb_texts[skb]
            else:
                count = skbs.count
                text = released(skb, **releasing[hit]) if hit in releasing else skbs[skb]
                begins = skbs.count > count
            if begins:
                following.begun.append(len(lines))
                before = bold + before
            if relation:
                function = self._function_with(hit, relation)
            if plain:
                lines.append(f"{before}{text}{after}{tasks[task]}{packets[packet]}{function}{end}")
                continue
            time = self.time(clock(known.packet.number if known else skb, ns)) if clock else ""  # type: ignore[arg-type]
            first, then = (time, f"{ns!s:<16}{self.time_end}") if time_first else ("", time)
            lines.append(
                f"{first}{before}{text}{after}{tasks[task]}{then}{packets[packet]}{function}"
                f"{tails[packet]}{details(rest)}{end}"
            )
        self.texts = lines
        return "".join(lines)

    def _function_with(self, raw: bytes, relation: str) -> str:
        """Return function() with a relation behind its name; it does not repeat."""
        function = self.names.function(self.schema.hit(raw))
        return self.function(function._replace(name=f"{function.name}({relation})"))

    def _function(self, raw: bytes) -> str:
        hit = self.schema.hit(raw)
        releases = {"ends": hit.addr in self.names.ends, "after": hit.addr in self.names.after_ends}
        if any(releases.values()):
            if len(self._releasing) >= CACHE_LIMIT:
                self._releasing.clear()
                self.function_texts.clear()  # a cached text would never reach this code again
            self._releasing[raw] = releases
        return self.function(self.names.function(hit))

    @staticmethod
    def account(account: Account) -> str:
        return account.text()

    @abstractmethod
    def skb(self, address: int) -> str: ...

    @abstractmethod
    def follow(self, event: Follow, skb: Skb | None, parent: Skb | None) -> tuple[str, str, str]:
        """Return what precedes and what follows skb(), and what stands in parentheses after the name of the function.

        `skb` is None for a packet that is not followed, `parent` for an event without a relation.
        """

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


class Lines(StreamSink):
    """A format and the stream that its lines go to."""

    def __init__(self, form: type[Format], stream: Stream, style: LineStyle, shown: Shown | None = None) -> None:
        """`shown`: what is printed of what the source has; None: all of it."""
        self._make = form
        super().__init__(stream)
        self._style = style
        self._shown = shown
        self._format: Format | None = None
        self._ended: float | None = None

    def begin(self, source: Source) -> None:
        schema = self._shown.of(source.schema) if self._shown else source.schema
        numbers = source.numbers if "follow" in schema.parts else None
        self._format = self._make(schema, source.names, self._style, numbers)
        self.stream.begin(self._format.header().encode())

    def write(self, records: list[Record]) -> int:
        assert self._format
        bytes_given_up = self.stream.write(self._format.events(records))
        given_up = 0
        while bytes_given_up > 0:  # an event may have lines of its own; one of which a part was printed was given up
            given_up += 1
            bytes_given_up -= len(self._format.texts[-given_up].encode())
        written = len(records) - given_up
        self.events += written
        if given_up:
            self.packets += self._format.packets_begun(records[:written])
        else:
            self.packets = self._format.packets
        self.not_followed = self._format.not_followed
        return given_up

    def ending(self) -> None:
        if self._ended is None:
            self._ended = monotonic()

    def account(self, account: Account) -> str:
        self.ending()
        if self._format and self._ended is not None and not account.waiting:
            account = account._replace(waiting=self._format.waiting(self._ended, account.living))
        return self._make.account(account)
