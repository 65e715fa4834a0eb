"""What a report says, read back from its page."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple


class Shown(NamedTuple):
    """A packet as the page has it. A drop is a step, a reason and a place."""

    number: int
    outcome: str
    times: list[int]
    functions: list[str]
    places: list[str]
    addresses: str
    drops: list[tuple[int, str, str]]
    payloads: list[tuple[str, int, int]]


class Page:
    """What the page knows, read from it as a browser reads it."""

    def __init__(self, html: str) -> None:
        [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
        self.data: dict[str, Any] = json.loads(text)
        firsts = self.data["packets"]["first"]
        ends = [*firsts[1:], len(self.data["steps"]["time"])]
        self.packets = [
            self._packet(number, slice(*span)) for number, span in enumerate(zip(firsts, ends, strict=False))
        ]

    def text(self, number: int) -> str:
        return str(self.data["strings"][number]) if number >= 0 else ""

    def _packet(self, index: int, span: slice) -> Shown:
        data, packets, steps = self.data, self.data["packets"], {k: v[span] for k, v in self.data["steps"].items()}
        states = [data["states"][number] for number in steps["state"]]
        return Shown(
            packets["number"][index],
            data["outcomes"][packets["outcome"][index]],
            steps["time"],
            [self.text(data["functions"][number][0]) for number in steps["function"]],
            list(dict.fromkeys(self.text(state[1]) or str(state[0]) for state in states)),
            _shown([self.text(state[8]) for state in states]),
            [
                (step, self.text(reason), self.text(place))
                for packet, step, reason, place in data["drops"]
                if packet == index
            ],
            [data["payloads"][number] for number in dict.fromkeys(steps["payload"]) if number >= 0],
        )


def _shown(addresses: list[str]) -> str:
    """Return the first with ports, or else the first."""
    with_ports = (text for text in addresses if re.search(r"[\].\d]:\d+ →", text))
    return next(with_ports, next(filter(None, addresses), ""))
