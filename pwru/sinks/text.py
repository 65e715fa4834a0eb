"""Events as lines of text, in the columns that users of pwru have in their scripts."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

from pwru.sinks.lines import Cache, Extras, Format
from pwru.sinks.terminal import BOLD, DEFAULT, DIM, RED, RESET

if TYPE_CHECKING:
    from pwru.record.event import Decoder, Function, Meta, Packet, Symbolize, Task, Tuple

NAME_WIDTH = 16
L4_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 89: "ospf",
            103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}  # fmt: skip
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
# These are printed with ports although they have none: a column that scripts split at the colons.
_PORTLESS = {1, 58}
_CENTRED = ("IFACE", "NETNS NAME")
_CB = "__sk_buff->cb[]"

# On a terminal that is too narrow: what these columns are cut down to (values stay whole), what TUPLE and FUNC, and
# CALLER, are to have room for, and how wide TUPLE and FUNC grow at most. What still does not fit goes to a further line
# of the row.
_LEAST = {"PROCESS": 11, "MARK/x": 6, "IFACE": 8}
_TUPLE_AND_FUNC, _CALLER = 56, 20
_TUPLE_MOST, _FUNC_MOST = 40, 20
_FURTHER_LINE = "\n    "


def cut(name: str) -> str:
    """The end of a name that is too long for its column is what tells it from others (a PID, an index)."""
    return name if len(name) <= NAME_WIDTH else "~" + name[1 - NAME_WIDTH :]


def task_text(task: Task) -> str:
    return cut(f"{task.comm}:{task.pid}")


def iface_text(meta: Meta) -> str:
    return cut(f"{meta.ifname}:{meta.ifindex}") if meta.ifname else str(meta.ifindex)


def tuple_text(t: Tuple | None) -> str:
    """`S:SP->D:DP(proto)`; a later fragment has no ports, what is not IP has no tuple."""
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
    """Of a TCP header: RFC 9293, from the lowest bit on."""
    return "|".join(name for bit, name in enumerate(_TCP_FLAGS) if flags >> bit & 1)


class _Bold(Cache[int]):
    """The first text that is made of an skb is bold, up to the end of FUNC: here a packet begins its way."""

    def __missing__(self, key: int) -> str:
        return BOLD + super().__missing__(key)


class Text(Format):
    end = "\n"

    def __init__(
        self,
        decoder: Decoder,
        symbolize: Symbolize,
        last: Collection[int] = (),
        extras: Extras = Extras(),  # noqa: B008  (a constant)
    ) -> None:
        super().__init__(decoder, symbolize, last, extras)
        clock, netns_names, *_, look = extras
        self.time_first = clock is not None and clock.is_first
        self._color = look.color
        if look.color:
            self._skbs = _Bold(self.skb)
        parts = decoder.parts
        # All but TUPLE and FUNC, in their order; and what stands behind each: a space, unless it is the last of a line.
        self._widths = {"TIME": 23} if self.time_first else {}
        self._widths |= {"SKB": 18, "CPU": 3, "PROCESS": NAME_WIDTH}
        if clock:
            self._widths["TIMESTAMP"] = 16
        if parts.meta:
            self._widths |= {"NETNS": 10, "MARK/x": 8, "IFACE": NAME_WIDTH, "PROTO": 6, "MTU": 5, "LEN": 5}
        if parts.cb:
            self._widths[_CB] = 56
        if netns_names:
            self._widths["NETNS NAME"] = netns_names.width
        self._after = dict.fromkeys(self._widths, " ")
        self._tuple_width, self._tuple_most = len("TUPLE"), sys.maxsize
        self._func_width, self._func_most = len("FUNC"), sys.maxsize
        if look.width:
            self._fit(look.width)
        if clock:
            self.time_end = self._after["TIMESTAMP"]
        self._meta_form = ""
        if parts.meta:
            after, mark = self._after, self._widths["MARK/x"]
            # At the end of a line a short length leaves room for a process whose name takes more than its column.
            length = "" if after["LEN"] == _FURTHER_LINE else "-5"
            self._meta_form = (
                f"%-10d{after['NETNS']}%-{mark}x{after['MARK/x']}%s{after['IFACE']}"
                f"0x%04x{after['PROTO']}%-5d{after['MTU']}%{length}d{after['LEN']}"
            )

    def _fit(self, width: int) -> None:
        """Into this many columns of a terminal, if what a line usually has is more."""
        wide, rest = self._widths, _TUPLE_AND_FUNC + _CALLER * self.caller
        if sum(wide.values()) + len(wide) + rest <= width:
            return
        self._tuple_most, self._func_most = _TUPLE_MOST, _FUNC_MOST
        self._widths = {name: _LEAST.get(name, own) for name, own in wide.items()}
        at, line, first = 0, list[str](), None
        for name, own in [*self._widths.items(), ("", rest)]:
            if at and at + own > width:
                self._after[line[-1]] = _FURTHER_LINE
                first = first or (line, width - at + 1)
                at, line = len(_FURTHER_LINE) - 1, []
            at += own + 1
            line.append(name)
        line, spare = first or (line, width - at + 1)
        for name in [name for name in _LEAST if name in line]:
            more = min(spare, wide[name] - self._widths[name])
            self._widths[name] += more
            spare -= more

    def header(self) -> str:
        columns = "".join(
            f"{name:{'^' if name in _CENTRED else '<'}{width}}{self._after[name]}"
            for name, width in self._widths.items()
        )
        if self._decoder.parts.tuple:
            columns += "TUPLE "
        columns += f"FUNC{' CALLER' * self.caller}{' TUNNEL' * self._decoder.parts.tunnel}"
        return f"{DIM}{columns}{RESET}\n" if self._color else f"{columns}\n"

    def skb(self, address: int) -> str:
        return f"{address:<#18x} "

    def task(self, task: Task) -> str:
        return f"{task.cpu:<3} {task_text(task):<{self._widths['PROCESS']}}{self._after['PROCESS']}"

    def packet(self, packet: Packet) -> str:
        columns = self._meta(packet.meta) if packet.meta else ""
        if packet.cb is not None:
            columns += f"[{','.join(f'0x{word:08X}' for word in packet.cb)}]{self._after[_CB]}"
        if self.netns_names and packet.meta:
            width = self.netns_names.width
            name = (self.netns_names.get(packet.meta.netns) or "")[:width]
            columns += f"{name:^{width}}{self._after['NETNS NAME']}"
        if not self._decoder.parts.tuple:
            return columns
        addresses = tuple_text(packet.tuple)
        if self._tuple_width < len(addresses) <= self._tuple_most:
            # The column only grows: what is kept at the old width is formatted anew.
            self._tuple_width = len(addresses)
            self._packets.clear()
        return f"{columns}{addresses:<{self._tuple_width}} "

    def _meta(self, m: Meta) -> str:
        iface = f"{iface_text(m):^{self._widths['IFACE']}}"
        return self._meta_form % (m.netns, m.mark, iface, m.protocol, m.mtu, m.len)

    def function(self, function: Function) -> str:
        name = function.name
        if self.caller:
            if self._func_width < len(name) <= self._func_most:
                self._func_width = len(name)  # grows, as that of the tuple
                self._functions.clear()
            name = f"{name:<{self._func_width}} {function.caller}"
        elif function.caller:
            name += f" {function.caller}"
        if not self._color:
            return name
        if function.drops:
            name = f"{RED}{function.name}{DEFAULT}{name[len(function.name) :]}"
        return f"{name}{RESET}"

    def tail(self, packet: Packet) -> str:
        return f" {tuple_text(packet.tunnel)}" if packet.tunnel else ""

    def time(self, moment: int | str) -> str:
        if self.time_first:
            return f"{moment:<23}{self._after['TIME']}"
        return f"{moment:<16}{self.time_end}"
