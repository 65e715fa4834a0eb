"""One event as an object with names, for whoever wants to look at it: scripts, and sinks that do not print lines."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pwru.record.names import Function, Hit
from pwru.record.parts import FlowTuple, Follow, Meta, Payload, Stack

__all__ = ["Event", "Function", "Hit", "Task"]


class Task(NamedTuple):
    """The task that was on the CPU: `cpu` counts from 0, `pid` is the thread group, `comm` its name (15 bytes)."""

    cpu: int
    pid: int
    comm: str


class Event(NamedTuple):  # not a dataclass: the import of these is a twentieth of the start
    """One hit of a probe. A part that the run did not ask for is None.

    `skb` is the address of the struct sk_buff. `function` has the names of what was hit, `hit` the numbers. `parts` has
    the value of each part by name; those that every user knows have a property.

    `time` is in ns since boot, CLOCK_MONOTONIC. `tuple` and `tunnel` (the packet inside a tunnel's packet) are also
    None without an IP header. `follow` says which packet it is, if the run follows packets. `stack` has addresses,
    `payload` the first bytes of the packet.
    """

    skb: int
    task: Task
    hit: Hit
    function: Function
    parts: Mapping[str, Any]

    @property
    def time(self) -> int | None:
        return self.parts.get("time")

    @property
    def meta(self) -> Meta | None:
        return self.parts.get("meta")

    @property
    def tuple(self) -> FlowTuple | None:
        return self.parts.get("tuple")

    @property
    def tunnel(self) -> FlowTuple | None:
        return self.parts.get("tunnel")

    @property
    def follow(self) -> Follow | None:
        return self.parts.get("follow")

    @property
    def stack(self) -> Stack | None:
        return self.parts.get("stack")

    @property
    def payload(self) -> Payload | None:
        return self.parts.get("payload")
