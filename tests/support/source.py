"""A source without a kernel: records in a list, and names that are made up."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pwru.record.about import About
from pwru.record.follow import Numbers
from pwru.record.names import Function, Hit, Names
from pwru.record.schema import Schema


def function_text(hit: Hit) -> Function:
    return Function(f"f{hit.addr:x}", "")


def frame_texts(_caller: int, frames: Sequence[int]) -> list[str]:
    return [f"0x{frame:x}" for frame in frames]


class FakeNames:
    """Names by functions that a test chooses."""

    def __init__(
        self,
        function: Callable[[Hit], Function] = function_text,
        *,
        ends: Collection[int] = (),
        after_ends: Collection[int] = (),
        netns: Callable[[], Mapping[int, str]] = dict,
        stack: Callable[[int, Sequence[int]], list[str]] = frame_texts,
        dump: Callable[[str, bytes], str] = lambda _, raw: raw.hex(),
        shape: list[Any] | None = None,
    ) -> None:
        self._function, self._netns, self._stack, self._dump = function, netns, stack, dump
        self.ends, self.after_ends, self.sees_ends = ends, after_ends, True
        self.generation = 0
        self._shape = shape or ["bytes"]

    def clock_offset(self) -> int:
        return time.time_ns() - time.monotonic_ns()

    def function(self, hit: Hit) -> Function:
        return self._function(hit)

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        return self._stack(caller, frames)

    def netns(self) -> Mapping[int, str]:
        return self._netns()

    def dump(self, part: str, raw: bytes) -> str:
        return self._dump(part, raw)

    def shape(self, part: str) -> tuple[str, list[Any]]:
        return part, self._shape


ABOUT = About("0", ("6.12", "#1", "x86_64"), "none")


@dataclass
class FakeSource:
    """A schema and names, for records that are handed to a sink."""

    schema: Schema
    names: Names
    about: About = ABOUT
    numbers: Numbers = field(default_factory=Numbers)
    living: Collection[int] | None = None

    def lives(self, _skb: int, instance: int) -> bool | None:
        return None if self.living is None else instance in self.living
