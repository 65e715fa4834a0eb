"""A packet as a block of lines: what it is and what became of it, then its way, step by step, skb by skb."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pwru.record.account import Account
from pwru.record.event import Task
from pwru.record.follow import OTHER, Skb
from pwru.record.memo import Memo
from pwru.record.names import Names
from pwru.record.packets import DROPPED, ENDED, EVICTED, MERGED, UNSEEN, End, Step, Way
from pwru.record.parts import FlowTuple, Meta
from pwru.record.schema import Schema, Values
from pwru.record.stages import DELIVERED, stage_of
from pwru.sinks.details import Details
from pwru.sinks.lines import LineStyle, NetnsNames
from pwru.sinks.terminal import BOLD, DEFAULT, DIM, RED, RESET, width_of
from pwru.sinks.text import L4_NAMES, RELATIONS, flags_text
from pwru.sinks.time import CLOCKS

_TIME = 11  # characters of the column of times
INDENT = " " * (_TIME + 2)
_LONG = 10  # what takes at least the tenth part of the whole way is long
_RETRANSMITTED = 2
_MOST = 4  # of a list in a headline
_ETHERTYPES = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6", 0x8100: "vlan", 0x88A8: "vlan", 0x88CC: "lldp"}
_SNIFFERS = {"packet_rcv", "packet_rcv_spkt", "tpacket_rcv"}  # their readers are not those that a packet is for


class Seen(NamedTuple):
    """What was told of an skb last."""

    task: Task | None = None
    meta: Meta | None = None
    flow: FlowTuple | None = None


class Blocks:
    """Makes the text of a packet."""

    def __init__(self, schema: Schema, names: Names, style: LineStyle) -> None:
        self._schema = schema
        self._caller = style.caller
        self.width = style.width
        self._details = Details(schema, names) if schema.has_details else None
        self._sees_ends = names.sees_ends
        self._netns = NetnsNames(names.netns)
        with_clock = style.timestamp in ("absolute", "current")
        self._clock = CLOCKS[style.timestamp](names.clock_offset) if with_clock else None
        self.tasks = Memo(schema.task)
        self.packets: Memo[bytes, Values] = Memo(schema.packet)
        colors = (BOLD, DIM, RED, DEFAULT, RESET) if style.color else ("",) * 5
        self.bold, self.dim, self._red, self._default, self.reset = colors

    def text(self, way: Way) -> str:
        self._netns.changed()  # so that new names are looked up
        lines = [self._headline(way)]
        for skb, steps in way.by_skb().items():
            if skb is not way.of[0]:
                lines.append(self._birth(way, skb))
            lines += self.way(way, steps)
        return "\n".join(lines) + "\n\n"

    @staticmethod
    def account(account: Account) -> str:
        return account.text()

    def way(self, way: Way, steps: Sequence[Step]) -> Iterator[str]:
        """Yield the lines of one skb: each step, with how long after the step before it came."""
        seen, before = Seen(), None
        last = b"", b""
        for step in steps:
            record, skb, function = step
            changes: list[str] = []
            if last != (record.task, record.packet):  # most steps say the same of the packet as the step before
                last = record.task, record.packet
                yield from self.place(seen, self.packets[record.packet])
                changes, seen = self.changes(seen, self.tasks[record.task], self.packets[record.packet])
            if (end := way.ends.get(skb)) and end.how == MERGED and way.steps[end.step] is step:
                changes.append(end_text(end))
            name = f"{function.name} {function.verdict}" if function.verdict else function.name
            if skb.instance == OTHER:
                name = f"~ {name}"
            if self._caller and function.caller:
                name += f" ← {function.caller}"
            passed = step.time - before.time if before else None
            yield self.line(way, passed, self.red(name) if function.drops else name, changes)
            if self._details and (more := self._details.text(record.details).lstrip("\n")):
                yield from (f"{INDENT}    {line}" for line in more.splitlines())
            before = step

    def line(self, way: Way, passed: int | None, text: str, changes: Sequence[str]) -> str:
        """Return a line with a time; what has changed goes below it if there is no room."""
        time = ""
        if passed is not None:
            passed = max(passed, 0)
            emphasis = self.bold if passed * _LONG >= way.duration > 0 else self.dim
            time = f"{emphasis}{duration(passed):>{_TIME}}{self.reset}"
        line = f"{time or ' ' * _TIME}    {text}"
        if not changes:
            return line
        told = [f"{self.dim}{change}{self.reset}" for change in changes]
        return folded([line, *told], "  ", self.width, f"{INDENT}      ")

    def red(self, text: str) -> str:
        return f"{self._red}{text}{self._default}"

    def place(self, seen: Seen, parts: Values) -> Iterator[str]:
        """Yield where the packet is now, if that is another namespace or another device."""
        meta: Meta | None = parts.get("meta")
        if not meta:
            return
        before, device = seen.meta, meta.ifname or (str(meta.ifindex) if meta.ifindex else "")
        place = device
        if before and meta.netns in (0, before.netns):
            if not meta.ifname or (meta.ifindex, meta.ifname) == (before.ifindex, before.ifname):
                return
        elif meta.netns:
            name = self._netns.get(meta.netns)
            place = f"netns {meta.netns}{f' ({name})' if name else ''} {device}".rstrip()
        if place:
            yield f"{INDENT}{self.dim}▸ {place}{self.reset}"

    def changes(self, seen: Seen, task: Task, parts: Values) -> tuple[list[str], Seen]:
        """Return what is different from what was seen before, and what is seen now."""
        told: list[str] = []
        meta: Meta | None = parts.get("meta")
        before = seen.meta
        if meta:
            if meta.len != (before.len if before else 0):
                told.append(f"len {meta.len}")
            if meta.mark != (before.mark if before else 0):
                told.append(f"mark 0x{meta.mark:x}")
            if before and before.protocol and meta.protocol not in (0, before.protocol):
                told.append(_protocol(meta.protocol))
            if before and not meta.netns:  # the skb has no device any more, but it is still there
                meta = meta._replace(netns=before.netns)
            if before and not meta.ifname:
                meta = meta._replace(ifindex=before.ifindex, ifname=before.ifname)
        flow: FlowTuple | None = parts.get("tuple")
        if flow and seen.flow and _differs(seen.flow, flow):
            told.append(f"{flow_text(flow)} {L4_NAMES.get(flow.protocol, flow.protocol)}")
        if seen.task and task[1:] != seen.task[1:]:
            told.append(name_of(task))
        if seen.task and task.cpu != seen.task.cpu:
            told.append(f"cpu {task.cpu}")
        return told, Seen(task, meta or before, flow or seen.flow)

    def _headline(self, way: Way) -> str:
        words = [f"{way.name}{' goes on:' * way.continues} {self._flow(way)}", name_of(self.tasks[way.records[0][1]])]
        if self._clock:
            words.append(str(self._clock(0, way.first)))
        words.append(duration(way.duration))
        if way.transmissions >= _RETRANSMITTED:
            words.append(f"sent {way.transmissions} times")
        ends = list(dict.fromkeys(self._ends(way)))
        more = [f"and {len(ends) - _MOST} more"] if len(ends) > _MOST else []
        text = folded(words + ends[:_MOST] + more, ", ", self.width, "    ")
        return f"{self.bold}{text.replace('DROPPED', self.red('DROPPED'))}{self.reset}"

    def _flow(self, way: Way) -> str:
        """Return the addresses that a packet has first, with the protocol."""
        packets = [self.packets[raw] for raw in dict.fromkeys(record[3] for record in way.records)]
        flows: list[FlowTuple] = [flow for parts in packets if (flow := parts.get("tuple"))]
        if not flows:
            metas: list[Meta] = [parts["meta"] for parts in packets if "meta" in parts]
            return next((_protocol(meta.protocol) for meta in metas if meta.protocol), "packet")
        flow = next((flow for flow in flows if flow.sport is not None and not flow.from_sock), flows[0])
        flags = next((flow.flags for flow in flows if flow.flags), 0)
        protocol = L4_NAMES.get(flow.protocol, flow.protocol)
        return f"{flow_text(flow)} {protocol}{' ' + flags_text(flags) if flags else ''}"

    def _ends(self, way: Way) -> Iterator[str]:
        """Yield what became of a packet, in the words of the headline."""
        if way.end == DROPPED:
            for skb, end in way.drops:
                yield end_text(end) + (f" ({skb.name})" if len(way.skbs) > 1 else "")
        elif way.end in (ENDED, MERGED):
            readers = [*self._readers(way)]
            merged = [e for e in way.ends.values() if e.parent and e.parent.packet is not way.packet]
            longest = max(way.ends, key=way.of.count, default=None)  # others are copies that were kept, or set aside
            ends = merged or ([way.ends[longest]] if longest else [])
            yield from readers or map(end_text, ends)
        else:
            why = {UNSEEN: "not seen since", EVICTED: "no room to wait for more"}.get(way.end, "still on its way")
            yield f"last in {way.functions[-1].name}{f' ({why})' if self._sees_ends else ''}"

    def _readers(self, way: Way) -> Iterator[str]:
        if not any(stage_of(name) == DELIVERED for name in {function.name for function in way.functions}):
            return
        for steps in way.by_skb().values():
            names = {step.function.name for step in steps}
            if not names & _SNIFFERS and any(stage_of(name) == DELIVERED for name in names):
                step = next(step for step in steps if stage_of(step.function.name) == DELIVERED)
                yield f"delivered to {name_of(self.tasks[step.record.task])}"

    def _birth(self, way: Way, skb: Skb) -> str:
        """Return the line that precedes the steps of a further skb."""
        birth, end, text = way.skbs.get(skb), way.ends.get(skb), skb.name
        if birth and birth.relation and birth.parent:
            text += f" {RELATIONS.get(birth.relation, birth.relation)} {birth.parent.name}"
        if birth:
            text += f", after {duration(max(way.steps[birth.step].time - way.first, 0))}"
        if end:
            text += f", {end_text(end)}".replace("DROPPED", self.red("DROPPED"))
        return f"  {self.bold}└ {text}{self.reset}"


def folded(items: Sequence[str], between: str, width: int, indent: str) -> str:
    """Return these in a line or, if that is wider than `width` (0: any), in several; what follows is indented."""
    text, at = "", 0
    for item in items:
        if text and width and at + len(between) + width_of(item) + len(between.rstrip()) > width:
            text += f"{between.rstrip()}\n{indent}{item}"
            at = len(indent) + width_of(item)
        else:
            at += (len(between) if text else 0) + width_of(item)
            text += (between if text else "") + item
    return text


def duration(ns: int) -> str:
    """Return a time with its unit, in no more than nine characters below 1000 s."""
    if ns < 1_000_000:
        return f"{ns / 1e3:.1f} µs"
    return f"{ns / 1e6:.2f} ms" if ns < 1_000_000_000 else f"{ns / 1e9:.2f} s"


def end_text(end: End) -> str:
    if end.how == MERGED:
        return f"merged into {end.parent.name}" if end.parent else "merged"
    place = f" in {end.place}" if end.place else ""
    return f"DROPPED{' ' + end.reason if end.reason else ''}{place}" if end.how == DROPPED else f"ended{place}"


def name_of(task: Task) -> str:
    return f"{task.comm}:{task.pid}"


def flow_text(flow: FlowTuple) -> str:
    source, destination = flow.saddr, flow.daddr
    if flow.sport is not None:
        if flow.ip_version != 4:
            source, destination = f"[{source}]", f"[{destination}]"
        source, destination = f"{source}:{flow.sport}", f"{destination}:{flow.dport}"
    return f"{source} → {destination}"


def _protocol(ethertype: int) -> str:
    return _ETHERTYPES.get(ethertype, f"protocol 0x{ethertype:04x}")


def _differs(before: FlowTuple, now: FlowTuple) -> bool:
    """Return whether they are of different flows; ports that are not known are no difference."""
    if (before.saddr, before.daddr, before.protocol) != (now.saddr, now.daddr, now.protocol):
        return True
    return None not in (before.sport, now.sport) and (before.sport, before.dport) != (now.sport, now.dport)
