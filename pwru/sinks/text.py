"""Events as lines of text, in the columns that users of pwru have in their scripts."""

import sys
from collections.abc import Mapping
from typing import Any

from pwru.record.event import Task
from pwru.record.follow import Numbers, Skb
from pwru.record.names import Function, Names
from pwru.record.parts import PARTS, FlowTuple, Follow, Meta
from pwru.record.schema import Schema
from pwru.sinks.columns import FURTHER_LINE, lay_out
from pwru.sinks.lines import Format, LineStyle
from pwru.sinks.terminal import BOLD, DEFAULT, DIM, RED, RESET

NAME_WIDTH = 16
PACKET_ID_WIDTH = 11  # of #12345b tx2: what takes more moves the columns after it
L4_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 89: "ospf",
            103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}  # fmt: skip
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
# These are printed with ports although they have none: a column that scripts split at the colons.
_PORTLESS = {1, 58}
# How a relation is told before its parent; what is not here is said by its own name.
RELATIONS = {"clone": "clone of", "copy": "copy of", "segment": "segment of", "fragment": "fragment of",
              "split": "split from", "merged": "merged into", "xdp": "by XDP from"}  # fmt: skip
_CENTRED = ("IFACE", "NETNS NAME")


def cut(name: str) -> str:
    """Return the end of a name that is too long for its column: it tells the name from others (a PID, an index)."""
    return name if len(name) <= NAME_WIDTH else "~" + name[1 - NAME_WIDTH :]


def task_text(task: Task) -> str:
    return cut(f"{task.comm}:{task.pid}")


def iface_text(meta: Meta) -> str:
    return cut(f"{meta.ifname}:{meta.ifindex}") if meta.ifname else str(meta.ifindex)


def tuple_text(t: FlowTuple | None) -> str:
    """Return `S:SP->D:DP(proto)`. A later fragment has no ports; a packet that is not IP has no tuple: ""."""
    if t is None:
        return ""
    source, destination = (t.saddr, t.daddr) if t.ip_version == 4 else (f"[{t.saddr}]", f"[{t.daddr}]")
    if t.sport is not None:
        source, destination = f"{source}:{t.sport}", f"{destination}:{t.dport}"
    elif t.protocol in _PORTLESS:
        source, destination = f"{source}:0", f"{destination}:0"
    flags = flags_text(t.flags)
    return f"{source}->{destination}({L4_NAMES.get(t.protocol, t.protocol)}{flags and ':' + flags})"


def flags_text(flags: int) -> str:
    """Return the names of the flags of a TCP header (RFC 9293), from the lowest bit on."""
    return "|".join(name for bit, name in enumerate(_TCP_FLAGS) if flags >> bit & 1)


class Text(Format):
    end = "\n"

    def __init__(
        self,
        schema: Schema,
        names: Names,
        style: LineStyle = LineStyle(),  # noqa: B008  (a constant)
        numbers: Numbers | None = None,
    ) -> None:
        self.first_event = BOLD if style.color else ""
        super().__init__(schema, names, style, numbers)
        self.time_first = self.clock is not None and self.clock.is_first
        self._columns = {name: c for name, part in PARTS.items() if name in schema.parts and (c := part.column)}
        widths = {"TIME": 23} if self.time_first else {}
        self._packet_id = style.packet_id and "follow" in schema.parts
        if self._packet_id:
            widths["PKT"] = PACKET_ID_WIDTH
        widths |= {"SKB": 18, "CPU": 3, "PROCESS": NAME_WIDTH}
        if self.clock:
            widths["TIMESTAMP"] = 16
        if "meta" in schema.parts:
            widths |= {"NETNS": 10, "MARK/x": 8, "IFACE": NAME_WIDTH, "PROTO": 6, "MTU": 5, "LEN": 5}
        widths |= {column.title: column.width for column in self._columns.values()}
        if style.netns_names:
            widths["NETNS NAME"] = style.netns_names
        layout = lay_out(widths, style.width, caller=style.caller)
        self._widths, self._after = layout.widths, layout.after
        self._tuple_width, self._tuple_most = len("TUPLE"), layout.tuple_most or sys.maxsize
        self._func_width, self._func_most = len("FUNC"), layout.func_most or sys.maxsize
        if self.clock:
            self.time_end = self._after["TIMESTAMP"]
        if "meta" in schema.parts:
            after, mark = self._after, self._widths["MARK/x"]
            # At the end of a line a short length leaves room for a process whose name takes more than its column.
            length = "" if after["LEN"] == FURTHER_LINE else "-5"
            self._meta_form = (
                f"%-10d{after['NETNS']}%-{mark}x{after['MARK/x']}%s{after['IFACE']}"
                f"0x%04x{after['PROTO']}%-5d{after['MTU']}%{length}d{after['LEN']}"
            )

    def header(self) -> str:
        columns = "".join(
            f"{name:{'^' if name in _CENTRED else '<'}{width}}{self._after[name]}"
            for name, width in self._widths.items()
        )
        parts = self.schema.parts
        columns += (
            f"{'TUPLE ' * ('tuple' in parts)}FUNC{' CALLER' * self.style.caller}{' TUNNEL' * ('tunnel' in parts)}"
        )
        return f"{DIM}{columns}{RESET}\n" if self.style.color else f"{columns}\n"

    def skb(self, address: int) -> str:
        return f"{address:<#18x}{self._after['SKB']}"

    def follow(self, event: Follow, skb: Skb | None, parent: Skb | None) -> tuple[str, str, str]:
        if not self._packet_id:
            return "", "", ""
        name = skb.name if skb else "-"
        again = f" tx{event.transmission}" if event.transmission > 1 else ""
        relation = ""
        if event.relation:
            words = RELATIONS.get(event.relation, event.relation)
            relation = f"{words} {parent.name}" if parent else event.relation
        return f"{name + again:<{PACKET_ID_WIDTH}}{self._after['PKT']}", "", relation

    def task(self, task: Task) -> str:
        return f"{task.cpu:<3}{self._after['CPU']}{task_text(task):<{self._widths['PROCESS']}}{self._after['PROCESS']}"

    def packet(self, parts: Mapping[str, Any]) -> str:
        meta: Meta | None = parts.get("meta")
        columns = self._meta(meta) if meta else ""
        for name, column in self._columns.items():
            columns += f"{column.text(parts[name]):<{column.width}}{self._after[column.title]}"
        if self.netns_names and meta:
            width = self.style.netns_names
            name = (self.netns_names.get(meta.netns) or "")[:width]
            columns += f"{name:^{width}}{self._after['NETNS NAME']}"
        if "tuple" not in parts:
            return columns
        addresses = tuple_text(parts["tuple"])
        if self._tuple_width < len(addresses) <= self._tuple_most:
            # The column only grows: what is kept at the old width is formatted anew.
            self._tuple_width = len(addresses)
            self.packet_texts.clear()
        return f"{columns}{addresses:<{self._tuple_width}} "

    def _meta(self, m: Meta) -> str:
        iface = f"{iface_text(m):^{self._widths['IFACE']}}"
        return self._meta_form % (m.netns, m.mark, iface, m.protocol, m.mtu, m.len)

    def function(self, function: Function) -> str:
        if function.verdict:
            function = function._replace(name=f"{function.name} {function.verdict}")
        name = function.name
        if self.style.caller:
            if self._func_width < len(name) <= self._func_most:
                self._func_width = len(name)  # grows, as TUPLE does
                self.function_texts.clear()
            name = f"{name:<{self._func_width}} {function.caller}"
        elif function.caller:
            name += f" {function.caller}"
        if not self.style.color:
            return name
        if function.drops:
            name = f"{RED}{function.name}{DEFAULT}{name[len(function.name) :]}"
        return f"{name}{RESET}"

    def tail(self, parts: Mapping[str, Any]) -> str:
        tunnel = parts.get("tunnel")
        return f" {tuple_text(tunnel)}" if tunnel else ""

    def time(self, moment: int | str) -> str:
        if self.time_first:
            return f"{moment:<23}{self._after['TIME']}"
        return f"{moment:<16}{self.time_end}"
