"""Packets as JSON, one object per line, with all of their events.

`packet` is its number, null if it was not followed; `continues`: an earlier object has its beginning. `end` is
"dropped", "ended", "merged", or, if it may still be on its way, "unseen" (not seen for a while), "evicted" (there was
no room to wait for more) or "open" (when the trace ended). `begin` is in ns since boot, `duration` in ns.
`transmissions` of TCP are there if there were any.

`skbs` are those of the packet, in order of appearance: `instance`, and how it came about (`relation`, `parent`), if
that is known; `end` is null for one that lives, else "dropped", "ended" or "merged" (into `into`), with the `place`
that dropped or released it, and the `reason` of a drop, null if the kernel gives none. `stages`: `stage` and `detail`
(the hook of netfilter, say), `ns` spent there, and how many `events` it has.

`events` have the keys that events have without --group, and `time`.
"""

from __future__ import annotations

import json
from typing import Any

from pwru.record.account import Account
from pwru.record.follow import OTHER, Skb
from pwru.record.memo import Memo
from pwru.record.names import Names
from pwru.record.packets import DROPPED, Step, Way
from pwru.record.schema import Schema
from pwru.record.stages import passages
from pwru.sinks.json import Json, numbers
from pwru.sinks.lines import LineStyle
from pwru.sinks.time import CLOCKS


class PacketJson:
    def __init__(self, schema: Schema, names: Names, style: LineStyle) -> None:
        self._schema = schema
        self._json = Json(schema, names, style)
        self._clock = CLOCKS[style.timestamp if style.timestamp == "absolute" else "current"](names.clock_offset)
        self._tasks = Memo[bytes, str](lambda raw: self._json.task(schema.task(raw)))

    @staticmethod
    def account(account: Account) -> str:
        return account.json()

    def text(self, way: Way) -> str:
        packet: dict[str, Any] = {"packet": way.number or None, "continues": way.continues, "end": way.end}
        packet |= {"begin": way.first, "duration": way.duration}
        if way.transmissions:
            packet["transmissions"] = way.transmissions
        packet["skbs"] = [self._skb(way, skb, steps) for skb, steps in way.by_skb().items() if skb.instance != OTHER]
        events = ",".join([self._event(way, number) for number in range(len(way.steps))])
        return f'{json.dumps(packet, separators=(",", ":"))[:-1]},"events":[{events}]}}\n'

    @staticmethod
    def _skb(way: Way, skb: Skb, steps: list[Step]) -> dict[str, Any]:
        birth, end = way.skbs.get(skb), way.ends.get(skb)
        members: dict[str, Any] = {"instance": skb.instance, "skb": f"{steps[0].record.skb:#x}"}
        if birth and birth.relation:
            members |= {"relation": birth.relation, "parent": _named(birth.parent)}
        members["end"] = end.how if end else None
        if end:
            members["place"] = end.place or None
            if end.how == DROPPED:
                members["reason"] = end.reason or None
            if end.parent:
                members["into"] = _named(end.parent)
        members["stages"] = [
            {"stage": stage, "detail": detail, "ns": ns, "events": len(those)}
            for stage, detail, ns, those in passages(steps)
        ]
        return members

    def _event(self, way: Way, number: int) -> str:
        record, skb, function = way.steps[number]
        form = self._json
        numbered = ""
        if record.follow:
            birth, end = way.skbs.get(skb), way.ends.get(skb)
            parent = birth.parent if birth and birth.step == number else end.parent if end else None
            event = self._schema.follow(record.follow)
            _, numbered, _ = form.follow(event, skb if event.packet else None, parent)
        time = form.time(self._clock(0, way.steps[number].time))
        return (
            f"{form.skb(record.skb)}{numbered}{self._tasks[record.task]}{time}"
            f"{form.packet_texts[record.packet]}{form.function(function)}{form.details(record.details)}}}"
        )


def _named(skb: Skb | None) -> dict[str, Any] | None:
    return json.loads(f"{{{numbers(skb)}}}") if skb else None
