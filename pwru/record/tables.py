"""The names that a recording has of its numbers: tables that grow, each entry before the first event that needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pwru.errors import printable
from pwru.record.dump import Dump
from pwru.record.heading import damaged
from pwru.record.names import Function, Hit, Names

if TYPE_CHECKING:
    from pwru.record.schema import Record, Schema

# The writer forgets what it has written at this size, and writes again what it needs; the reader keeps more than that.
_MAX_WRITTEN = 1 << 16
_MAX_READ = 1 << 18
_NETNS_SECONDS = 1.0  # the names of network namespaces come and go
K = TypeVar("K")
V = TypeVar("V")
COPIES = ("skb", "shared_info")


class Writer:
    """Looks up the names that events need and the file does not have yet."""

    def __init__(self, schema: Schema, names: Names) -> None:
        self._schema = schema
        self._names = names
        self._generation = names.generation
        self._netns: Mapping[int, str] = {}
        self._look_again = 0.0
        self.forget()

    def forget(self) -> None:
        """Begin again, in another file."""
        self._hits: set[bytes] = set()
        self._stacks: set[tuple[int, tuple[int, ...]]] = set()
        self._packets: set[bytes] = set()
        self._inodes: set[int] = set()
        self._ends: tuple[Collection[int], Collection[int]] = (), ()
        self._said_netns: Mapping[int, str] = {}
        self._shapes = [part for part in COPIES if part in self._schema.parts]

    def new(self, records: Iterable[Record]) -> bytes:
        """Return the data of a chunk with the names that these need besides, empty if there are none."""
        names, tables = self._names, dict[str, Any]()
        if names.generation != self._generation:
            self._generation = names.generation
            self._hits.clear()
            self._stacks.clear()
        _, _, hits, packets, _, _, details = (set(column) for column in zip(*records, strict=True))
        if new := hits - self._hits:
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
        said = {name: table for name, table in tables.items() if table}
        return json.dumps(said, separators=(",", ":")).encode() if said else b""

    def _function(self, hit: Hit) -> list[Any]:
        return [*hit, *self._names.function(hit)]

    def _new_stacks(self, details: set[bytes]) -> list[Any]:
        new = {(s.caller, s.frames) for s in (self._schema.details(raw)["stack"] for raw in details)} - self._stacks
        self._stacks = new if len(self._stacks) > _MAX_WRITTEN else self._stacks | new
        return [[caller, frames, self._names.stack(caller, frames)] for caller, frames in new]

    def _new_netns(self, packets: set[bytes]) -> list[tuple[int, str]]:
        inodes = {self._schema.packet(raw)["meta"].netns for raw in packets - self._packets}
        self._packets = packets
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
        self._functions: dict[Hit, Function] = {}
        self._without_place: dict[tuple[int, ...], Function] = {}
        self._stacks: dict[tuple[int, tuple[int, ...]], list[str]] = {}
        self._netns: dict[int, str] = {}
        self._dumps: dict[str, Dump] = {}
        self._shapes: dict[str, tuple[str, list[Any]]] = {}

    def read(self, data: bytes) -> None:
        """Take the data of a chunk. Raises Damaged."""
        with damaged("a table of names"):
            tables = json.loads(data)
            for addr, reason, location, name, caller, drops, verdict in tables.get("functions", ()):
                hit = Hit(_number(addr), _number(reason), _number(location))
                function = Function(printable(name), printable(caller), bool(drops), printable(verdict))
                if self._functions.get(hit, function) != function:
                    self.generation += 1
                _put_last(self._functions, hit, function)
                _put_last(self._without_place, hit[:2], function._replace(caller=""))
            for caller, frames, texts in tables.get("stacks", ()):
                stack = _number(caller), tuple(map(_number, frames))
                _put_last(self._stacks, stack, [printable(text) for text in texts])
            if "ends" in tables or "after_ends" in tables:
                self.ends = frozenset(map(_number, tables.get("ends", ())))
                self.after_ends = frozenset(map(_number, tables.get("after_ends", ())))
                self.generation += 1
            if "netns" in tables:
                self._netns = {_number(inode): printable(name) for inode, name in tables["netns"]}
            for part, (spelled, shape) in tables.get("shapes", {}).items():
                self._dumps[part], self._shapes[part] = Dump(spelled, shape), (spelled, shape)

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


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError
    return value


def _put_last(table: dict[K, V], key: K, value: V) -> None:
    table.pop(key, None)
    if len(table) >= _MAX_READ:
        del table[next(iter(table))]
    table[key] = value
