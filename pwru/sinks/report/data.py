"""What the page of a report knows: packets and their steps, as tables of what repeats and columns of numbers.

A number below 0 stands for "none", a number of text for a place in `strings`. Times are in ns: of packets since the
first event, of steps since the packet's first. model.js reads it.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Hashable, Iterable
from statistics import median
from typing import Any

from pwru.record.follow import Skb
from pwru.record.living import Lives, Living, Place
from pwru.record.memo import Memo
from pwru.record.names import Function, Names
from pwru.record.packets import ENDED, IDLE, OPEN, UNSEEN, Way
from pwru.record.parts import FlowTuple, Meta, Payload
from pwru.record.schema import Record, Schema
from pwru.record.stages import stage_of
from pwru.sinks.details import Details
from pwru.sinks.lines import NetnsNames
from pwru.sinks.text import L4_NAMES, RELATIONS, flags_text

STEPS = 100_000  # of the first packets; and as many again of packets that went wrong after those
PACKET_STEPS = 4000  # of a packet: the first half and the last half
SLOW = 10  # times the median; model.js has it, too
_NONE = -1
_PORTS = {6, 17, 132, 136}  # TCP, UDP, SCTP, UDP-Lite
_COLUMNS = ("time", "cpu", "instance", "function", "task", "state", "payload", "detail", "skb")


class Table(dict[Hashable, int]):
    """The numbers of values, by what tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def number(self, key: Hashable, make: Callable[[], Any]) -> int:
        """Return the number of a value, which is made when it is seen first."""
        found = self.get(key)
        if found is None:
            found = self[key] = len(self.rows)
            self.rows.append(make())
        return found


class Packet:
    """A packet that is shown: its columns. It may have been given out in pieces."""

    __slots__ = ("begin", "columns", "drops", "names", "number", "outcome", "places", "relations", "transmissions")

    def __init__(self, number: int, begin: int) -> None:
        self.number = number
        self.begin = begin
        self.columns = {name: array("q") for name in _COLUMNS}
        self.outcome = OPEN
        self.transmissions = 0
        self.places: list[Place] = []  # of its skbs that were not seen to end
        self.names: dict[int, int] = {}
        self.drops: list[tuple[int, int, int]] = []
        self.relations: list[tuple[int, int, int]] = []

    @property
    def count(self) -> int:
        """How many steps it has."""
        return len(self.columns["time"])


class Data:
    """Takes the ways of packets: the first ones, and of others those that went wrong; counts what it leaves out."""

    def __init__(self, schema: Schema, names: Names, lives: Lives, *, limit: int = STEPS) -> None:
        """`limit`: of steps, as STEPS."""
        self._schema, self._limit = schema, limit
        self._living = Living(schema, names, lives)
        self._details = Details(schema, names) if schema.has_details else None
        self._netns = NetnsNames(names.netns)
        self._strings, self._functions, self._tasks = Table(), Table(), Table()
        self._states, self._payloads = Table(), Table()
        self._ran = Memo(self._task)
        self._detailed = Memo(self._detail)
        self._packets: list[Packet] = []
        self._by_number: dict[int, Packet] = {}
        self._steps = self._wrong_steps = 0
        self._median: float | None = None  # of the first packets, once it is needed
        self.left_out = self.left_out_wrong = self.left_out_steps = 0

    def add(self, ways: Iterable[Way]) -> None:
        for way in ways:
            packet = self._packet(way)
            if packet is not None:
                self._append(packet, way)
            else:
                self.left_out += not way.continues
                self.left_out_wrong += self._is_wrong(way) and not way.continues
                self.left_out_steps += len(way.records)

    def _packet(self, way: Way) -> Packet | None:
        """Return the packet that these steps go to; None if there is no room."""
        count = min(len(way.records), PACKET_STEPS)
        before = self._by_number.get(way.number) if way.continues else None
        if before is not None:
            self._steps += count
            return before if before.count < PACKET_STEPS else None
        if self._steps < self._limit:
            self._steps += count
        elif self._is_wrong(way) and self._wrong_steps < self._limit:
            self._wrong_steps += count
        else:
            return None
        packet = Packet(way.number, way.first)
        self._packets.append(packet)
        if way.number:
            self._by_number[way.number] = packet
        return packet

    def _is_wrong(self, way: Way) -> bool:
        if self._median is None:
            self._median = median([packet.columns["time"][-1] for packet in self._packets if packet.count > 1] or [0])
        return bool(
            way.drops
            or way.transmissions > 1
            or (way.cause == UNSEEN and self._living.known and self._living.any(self._living.places(way)))
            or way.duration > SLOW * self._median > 0
        )

    def _append(self, packet: Packet, way: Way) -> None:
        packet.outcome = way.end
        packet.transmissions = max(packet.transmissions, way.transmissions)
        packet.places = self._living.places(way)
        places: dict[int, int] = {}  # of steps of the way, in the columns
        count = len(way.records)
        for number in range(count):
            if PACKET_STEPS // 2 <= number < count - PACKET_STEPS // 2:
                self.left_out_steps += 1
                continue
            places[number] = packet.count
            self._append_step(packet, way.records[number], way.of[number], way.functions[number])
        for skb, end in way.drops:
            if end.step in places:
                packet.names.setdefault(skb.instance, self._text(skb.name))
                packet.drops.append((places[end.step], self._text(end.reason), self._text(end.place)))
        for skb, birth in way.skbs.items():
            packet.names[skb.instance] = self._text(skb.name)
            if birth.relation and birth.step in places:
                self._relate(packet, places[birth.step], birth.relation, birth.parent.name if birth.parent else "")
        for end in way.ends.values():
            if end.parent and end.step in places:
                self._relate(packet, places[end.step], end.how, end.parent.name)

    def _relate(self, packet: Packet, place: int, relation: str, parent: str) -> None:
        packet.relations.append((place, self._text(RELATIONS.get(relation, relation)), self._text(parent)))

    def _append_step(self, packet: Packet, record: Record, skb: Skb, function: Function) -> None:
        columns = packet.columns
        address, raw_task, _, state, _, time, details = record
        cpu, task = self._ran[raw_task]
        payload, detail = self._detailed[details]
        before = columns["time"][-1] if packet.count else 0  # clocks of CPUs may differ a little
        row = (
            max(int(time) - packet.begin, before),
            cpu,
            skb.instance,
            self._functions.number(function, lambda: self._function(function)),
            task,
            self._states.number(state, lambda: self._state(state)),
            payload,
            detail,
            self._text(f"0x{address:x}"),
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)

    def _text(self, text: str) -> int:
        return self._strings.number(text, lambda: text) if text else _NONE

    def _function(self, function: Function) -> list[int]:
        name = f"{function.name} {function.verdict}".rstrip()
        stage = self._text(stage_of(function.name) or "")
        return [self._text(name), self._text(function.caller), +function.drops, stage]

    def _task(self, raw: bytes) -> tuple[int, int]:
        """Return the CPU, and the number of the task."""
        cpu, pid, comm = self._schema.task(raw)
        return cpu, self._tasks.number((pid, comm), lambda: [self._text(comm), pid])

    def _state(self, raw: bytes) -> list[int]:
        """Return what the skb and its device say."""
        parts = self._schema.packet(raw)
        m: Meta = parts.get("meta") or Meta(0, 0, 0, "", 0, 0, 0)
        tuples = (self._text(_addresses(parts.get(name))) for name in ("tuple", "tunnel"))
        netns = self._text(self._netns.get(m.netns) or "")
        return [m.netns, netns, m.ifindex, self._text(m.ifname), m.mark, m.mtu, m.len, m.protocol, *tuples]

    def _detail(self, raw: bytes) -> tuple[int, int]:
        """Return the numbers of the payload and of the text of all else."""
        if self._details is None:
            return _NONE, _NONE
        parts = self._schema.details(raw)
        payload: Payload | None = parts.pop("payload", None)
        number = _NONE
        if payload:
            row = [base64.b64encode(payload.data).decode(), payload.length, +payload.has_mac]
            number = self._payloads.number(tuple(row), lambda: row)
        return number, self._text(self._details.text_of(parts).strip()) if parts else _NONE

    def settle(self, now: int) -> None:
        """Tell the time of the end: what has not ended by then, and was not seen for long, is stuck."""
        for packet in self._packets:
            if packet.outcome not in (UNSEEN, OPEN):
                continue
            packet.outcome = OPEN
            if self._living.known and not self._living.any(packet.places):
                packet.outcome = ENDED
            elif self._living.known and packet.begin + packet.columns["time"][-1] <= now - IDLE:
                packet.outcome = UNSEEN

    def finish(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return the object that becomes JSON; `run` is what the page says of the whole trace."""
        packets = sorted(self._packets, key=lambda packet: packet.begin)
        origin = packets[0].begin if packets else 0
        firsts, place = [], 0
        for packet in packets:
            firsts.append(place)
            place += packet.count
        outcomes = Table()
        instances = [
            [packet.names.get(instance, _NONE) for instance in range(max(packet.names, default=0) + 1)]
            for packet in packets
        ]
        length = max((packet.begin + packet.columns["time"][-1] for packet in packets), default=origin) - origin
        return {
            "run": {**run, "origin": origin, "length": length},
            "strings": self._strings.rows,
            "functions": self._functions.rows,
            "tasks": self._tasks.rows,
            "states": self._states.rows,
            "payloads": self._payloads.rows,
            "packets": {
                "number": [packet.number for packet in packets],
                "first": firsts,
                "begin": [packet.begin - origin for packet in packets],
                "outcome": [outcomes.number(p.outcome, lambda p=p: p.outcome) for p in packets],  # type: ignore[misc]
                "transmissions": [packet.transmissions for packet in packets],
            },
            "outcomes": outcomes.rows,
            "instances": instances,
            "drops": [[number, *drop] for number, packet in enumerate(packets) for drop in packet.drops],
            "relations": [
                [first + step, words, parent]
                for first, packet in zip(firsts, packets, strict=True)
                for step, words, parent in packet.relations
            ],
            "steps": {name: [v for packet in packets for v in packet.columns[name]] for name in _COLUMNS},
        }


def _addresses(t: FlowTuple | None) -> str:
    """Return `10.9.0.1:40000 → 10.9.0.2:80 tcp SYN`; "" for a packet that is not IP."""
    if t is None:
        return ""
    source, destination = t.saddr, t.daddr
    if t.sport is not None and t.protocol in _PORTS:
        source, destination = (f"[{a}]" if t.ip_version == 6 else a for a in (source, destination))
        source, destination = f"{source}:{t.sport}", f"{destination}:{t.dport}"
    return f"{source} → {destination} {L4_NAMES.get(t.protocol, t.protocol)} {flags_text(t.flags)}".rstrip()
