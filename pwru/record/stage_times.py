"""How long packets stay in each stage of their ways."""

from collections.abc import Sequence
from typing import NamedTuple

from pwru.record.histogram import Histogram
from pwru.record.packets import Way
from pwru.record.stages import passages

STAGES = 1000  # that are told apart, at most: each with its detail
KNOWN = 1000  # ways whose stages are kept

Functions = tuple[tuple[str, ...], ...]  # that a packet passes: those of its first skb, then those of each other one
Stage = tuple[str, str]  # and its detail: which hook of netfilter, the reason of a drop


class _Stay(NamedTuple):
    """Where in a way a stage begins and ends: the number of the skb, and of its steps."""

    stage: Stage
    lane: int
    start: int
    end: int


class StageTimes(dict[Stage, Histogram]):
    """The times in ns, by stage. What stages a way has depends on its functions alone, and is found out once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Functions, list[_Stay]] = {}

    def count(self, way: Way, functions: Functions, times: Sequence[Sequence[int]]) -> None:
        """Add a way; `times` are those of its steps, as `functions` has them."""
        stays = self._known.get(functions)
        if stays is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            stays = self._known[functions] = _stays(way)
        for stage, lane, start, end in stays:
            known = self.get(stage)
            if known is None:
                if len(self) >= STAGES:
                    continue
                known = self[stage] = Histogram()
            known.add(max(times[lane][end] - times[lane][start], 0))


def _stays(way: Way) -> list[_Stay]:
    stays = []
    for lane, steps in enumerate(way.by_skb().values()):
        start = 0
        for stage, detail, _, part in passages(steps):
            end = min(start + len(part), len(steps) - 1)
            stays.append(_Stay((stage, detail), lane, start, end))
            start += len(part)
    return stays
