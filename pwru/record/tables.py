"""The names that a recording has of its numbers: tables that grow, each entry before the first event that needs it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pwru.record import bounds
from pwru.record.bounds import Kept, name, number
from pwru.record.dump import Dump
from pwru.record.names import Function, Hit, Names
from pwru.record.parts import COPIES

if TYPE_CHECKING:
    from pwru.record.columns import Columns
    from pwru.record.schema import Schema

# The writer forgets what it has written at this size, and writes again what it needs; the reader keeps more than that.
_MAX_WRITTEN = bounds.MAX_ENTRIES // 4
_MAX_WEIGHT = bounds.MAX_KEPT // 4
_NETNS_SECONDS = 1.0  # the names of network namespaces come and go


class Writer:
    """Looks up the names that events need and the file does not have yet."""

    def __init__(self, schema: Schema, names: Names) -> None:
        self._schema = schema
        self._of_meta = schema.narrowed({"meta": 0})  # addresses would be made text, which takes longer than all else
        self._names = names
        self._generation = names.generation
        self._netns: Mapping[int, str] = {}
        self._look_again = 0.0
        self.forget()

    def forget(self) -> None:
        """Begin again, in another file."""
        self._hits: set[bytes] = set()
        self._stacks: set[tuple[int, tuple[int, ...]]] = set()
        self._weight = 0  # of the stacks
        self._packets: set[bytes] = set()
        self._inodes: set[int] = set()
        self._ends: tuple[Collection[int], Collection[int]] = (), ()
        self._said_netns: Mapping[int, str] = {}
        self._shapes = [part for part in COPIES if part in self._schema.parts]

    def new(self, events: Columns) -> Iterator[bytes]:
        """Yield the data of chunks with the names that these need besides."""
        names, tables = self._names, dict[str, Any]()
        if names.generation != self._generation:
            self._generation = names.generation
            self._hits.clear()
            self._stacks.clear()
        hits, packets, details = (events.columns[name].values for name in ("hit", "packet", "details"))
        if new := set(hits) - self._hits:
            self._hits = new if len(self._hits) > _MAX_WRITTEN else self._hits | new
            tables["functions"] = [self._function(self._schema.hit(raw)) for raw in new]
            ends = {*names.ends}, {*names.after_ends}
            if ends != self._ends:
                self._ends = ends
                tables["ends"], tables["after_ends"] = map(sorted, ends)
        if "stack" in self._schema.parts:
            tables["stacks"] = self._new_stacks(details)
        if "meta" in self._schema.parts:
            tables["netns"] = self._new_netns(packets)
        if self._shapes:
            tables["shapes"] = {part: names.shape(part) for part in self._shapes}
            self._shapes = []
        return _chunks({name: table for name, table in tables.items() if table})

    def _function(self, hit: Hit) -> list[Any]:
        return [*hit, *self._names.function(hit)]

    def _new_stacks(self, details: Iterable[bytes]) -> list[Any]:
        new = {(s.caller, s.frames) for s in (self._schema.details(raw)["stack"] for raw in details)} - self._stacks
        said = [[caller, frames, self._names.stack(caller, frames)] for caller, frames in new]
        if len(self._stacks) > _MAX_WRITTEN or self._weight > _MAX_WEIGHT:
            self._stacks, self._weight = set(), 0
        self._stacks |= new
        self._weight += sum(_stack_weight(frames, texts) for _, frames, texts in said)
        return said

    def _new_netns(self, packets: Iterable[bytes]) -> list[tuple[int, str]]:
        now = set(packets)
        inodes = {self._of_meta.packet(raw)["meta"].netns for raw in now - self._packets}
        self._packets = now
        if inodes - self._inodes or time.monotonic() > self._look_again:
            self._inodes |= inodes
            self._netns, self._look_again = dict(self._names.netns()), time.monotonic() + _NETNS_SECONDS
        if self._netns == self._said_netns:
            return []
        self._said_netns = self._netns
        return [*self._netns.items()]


class RecordedNames:
    """The names of a recording, as far as it has been read: see Names."""

    def __init__(self, *, sees_ends: bool) -> None:
        self.sees_ends = sees_ends
        self.ends: Collection[int] = frozenset()
        self.after_ends: Collection[int] = frozenset()
        self.generation = 0
        self.offset = 0  # of the events that are read
        self._functions = Kept[Hit, Function]()
        self._without_place = Kept[tuple[int, ...], Function]()
        self._stacks = Kept[tuple[int, tuple[int, ...]], list[str]]()
        self._netns: dict[int, str] = {}
        self._dumps: dict[str, Dump] = {}
        self._shapes: dict[str, tuple[str, list[Any]]] = {}

    def read(self, data: bytes) -> None:
        """Take the data of a chunk. Raises Damaged."""
        with bounds.damaged("a table of names"):
            tables = bounds.load(data)
            for entry in tables.get("functions", ()):
                self._read_function(*entry)
            for caller, frames, texts in tables.get("stacks", ()):
                if not len(texts) <= len(frames) + 1 <= bounds.MAX_FRAMES:
                    raise ValueError
                stack, printed = (number(caller), tuple(map(number, frames))), [name(text) for text in texts]
                self._stacks.keep(stack, printed, _stack_weight(frames, printed))
            if "ends" in tables or "after_ends" in tables:
                self.ends = frozenset(map(number, tables.get("ends", ())))
                self.after_ends = frozenset(map(number, tables.get("after_ends", ())))
                self.generation += 1
            if "netns" in tables:
                self._netns = {number(inode): name(text) for inode, text in tables["netns"]}
            for part, (spelled, shape) in tables.get("shapes", {}).items():
                if part in COPIES:
                    self._dumps[part], self._shapes[part] = Dump(name(spelled), shape), (spelled, shape)

    def _read_function(self, addr: int, reason: int, location: int, *texts: Any) -> None:
        func, caller, drops, verdict = texts
        hit = Hit(number(addr), number(reason), number(location))
        function = Function(name(func), name(caller), bool(drops), name(verdict))
        if self._functions.get(hit, function) != function:
            self.generation += 1
        weight = bounds.weight((function.name, function.caller, function.verdict))
        self._functions.keep(hit, function, weight)
        self._without_place.keep(hit[:2], function._replace(caller=""), weight)

    def clock_offset(self) -> int:
        return self.offset

    def function(self, hit: Hit) -> Function:
        """Return the names; those of an event that the file has none for are numbers."""
        known = self._functions.get(hit) or self._without_place.get((hit.addr, hit.reason))
        return known or Function(f"0x{hit.addr:x}", f"0x{hit.location:x}" if hit.location else "")

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        return self._stacks.get((caller, tuple(frames))) or [f"0x{frame:x}" for frame in frames]

    def netns(self) -> Mapping[int, str]:
        return self._netns

    def dump(self, part: str, raw: bytes) -> str:
        return self._dumps[part](raw) if part in self._dumps else raw.hex()

    def shape(self, part: str) -> tuple[str, list[Any]]:
        return self._shapes.get(part, (part, ["bytes"]))


def _stack_weight(frames: Sequence[int], texts: Sequence[str]) -> int:
    return bounds.weight(texts) + 40 * len(frames)


def _chunks(tables: dict[str, Any]) -> Iterator[bytes]:
    """Yield the tables in as many pieces as it takes; of one that is said as a whole, what there is room for."""
    data = bounds.dump(tables) if tables else b""
    if len(data) <= bounds.MAX_JSON:
        if data:
            yield data
    elif len(tables) > 1:
        for name, table in tables.items():
            yield from _chunks({name: table})
    else:
        ((name, table),) = tables.items()
        half = len(table) // 2
        yield from _chunks({name: table[:half]})
        if name in ("functions", "stacks"):
            yield from _chunks({name: table[half:]})
