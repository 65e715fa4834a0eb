"""What the numbers in a record mean: asked of whoever knows, a live kernel or a file."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Hit(NamedTuple):
    """What a probe reports.

    `addr` is the address of a function, or the number of a tracepoint or of a BPF program. `reason` is an enum
    skb_drop_reason, 0 if the function has none, or what a program returned. `location` is the return address in the
    caller or, for a drop, in the code that dropped the packet; 0 unless requested.
    """

    addr: int
    reason: int
    location: int


class Function(NamedTuple):
    """The names of a hit: the function with the drop reason, and, if requested, the caller or the place of a drop.

    `verdict`: what a BPF program returned; "" for all else, and at its entry.
    """

    name: str
    caller: str
    drops: bool = False
    verdict: str = ""

    @property
    def plain(self) -> str:
        """The name alone, without what a program's kind or a drop reason adds to it in parentheses."""
        return self.name.partition("(")[0].rstrip()

    @property
    def reason(self) -> str:
        """The drop reason; "" if it is no drop, or has none."""
        return self.name.partition("(")[2].removesuffix(")") if self.drops else ""


class Names(Protocol):
    """Where the names of one run's numbers are from."""

    @property
    def ends(self) -> Collection[int]:
        """What `Hit.addr` is where a packet has come to its end: its skb is given back or used for another one."""

    @property
    def after_ends(self) -> Collection[int]:
        """What it is in functions that release the skb, and have it after that, too. The packet may end in them."""

    @property
    def sees_ends(self) -> bool:
        """Whether no skb comes to its end anywhere else."""

    @property
    def generation(self) -> int:
        """Goes up when earlier answers may have become wrong: modules came or went."""

    def clock_offset(self) -> int:
        """Return how far the time of day is ahead of the clock of events, as it is now, in ns."""

    def function(self, hit: Hit) -> Function:
        """Return the names of what a probe reports."""

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        """Return the text of each frame, from the caller on: without those of the tracer."""

    def netns(self) -> Mapping[int, str]:
        """Return the names of network namespaces by inode number, as they are now."""

    def dump(self, part: str, raw: bytes) -> str:
        """Return the text of the kernel struct that a part (`skb`, `shared_info`) is a copy of."""

    def shape(self, part: str) -> tuple[str, list[Any]]:
        """Return how that struct is spelled, and its shape: see kernel.shapes."""
