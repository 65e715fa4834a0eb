"""The way of a packet in the stages that people think in, each with the time that was spent there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pwru.record.packets import Step, Way
from pwru.record.stages import DELIVERED, DROPPED, Passage, passages
from pwru.sinks.blocks import INDENT, Blocks, Seen, end_text, name_of

_STAGE = 24  # characters of the column of stages


class StagedBlocks(Blocks):
    def way(self, way: Way, steps: Sequence[Step]) -> Iterator[str]:
        seen, last = Seen(), (b"", b"")
        for passage in passages(steps):
            told: list[str] = []
            yield from self.place(seen, self.packets[passage.steps[0].record.packet])
            for step in passage.steps:
                if last == (step.record.task, step.record.packet):
                    continue
                last = step.record.task, step.record.packet
                changes, seen = self.changes(seen, self.tasks[step.record.task], self.packets[step.record.packet])
                told += [change for change in changes if not change.startswith(("len ", "cpu "))]
            is_last = passage.steps[-1] is steps[-1]
            yield self.line(way, None if is_last and not passage.ns else passage.ns, self._stage(way, passage), told)

    def _stage(self, way: Way, passage: Passage) -> str:
        """Return the name of the stage and, as far as there is room, the functions."""
        first, last = passage.steps[0], passage.steps[-1]
        end = way.ends.get(first.skb)
        if passage.stage == DROPPED and end:
            return self.red(end_text(end))
        title = f"{passage.stage} {passage.detail}".rstrip()
        if passage.stage == DELIVERED:
            title += f" to {name_of(self.tasks[first.record.task])}"
        names = [first.function.name] + ([last.function.name] if last is not first else [])
        for functions in (" … ".join(names), f"{names[0]} …"):
            text = f"{title:<{_STAGE}}  {functions}"
            if not self.width or len(INDENT) + 2 + len(text) <= self.width:
                return f"{title:<{_STAGE}}  {self.dim}{functions}{self.reset}"
        return title
