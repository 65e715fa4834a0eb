"""Events as lines of text, in the columns that users of pwru have in their scripts."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pwru.output import Format, NetnsNames

if TYPE_CHECKING:
    from pwru.event import Decoder, Function, Meta, Packet, Symbolize, Task, Tuple
    from pwru.output.details import Describe
    from pwru.output.time import Clock

NAME_WIDTH = 16
L4_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 89: "ospf",
            103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}  # fmt: skip
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
# These are printed with ports although they have none: a column that scripts split at the colons.
_PORTLESS = {1, 58}
_META_HEADER = f"{'NETNS':<10} {'MARK/x':<8} {'IFACE':^16} {'PROTO':<6} {'MTU':<5} {'LEN':<5} "


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


class Text(Format):
    end = "\n"

    def __init__(
        self,
        decoder: Decoder,
        symbolize: Symbolize,
        last: Collection[int] = (),
        clock: Clock | None = None,
        netns_names: NetnsNames | None = None,
        more: Describe | None = None,
        caller: bool = False,
    ) -> None:
        super().__init__(decoder, symbolize, last, clock, netns_names, more, caller)
        self._func_width = len("FUNC")
        self.time_first = clock is not None and clock.is_first
        self._tuple_width = len("TUPLE")

    def header(self) -> str:
        columns = f"{'SKB':<18} {'CPU':<3} {'PROCESS':<16} "
        if self.clock:
            columns = f"{self.time('TIME') if self.time_first else ''}{columns}{'TIMESTAMP':<16} "
        if self._decoder.parts.meta:
            columns += _META_HEADER
        if self._decoder.parts.cb:
            columns += f"{'__sk_buff->cb[]':<56} "
        if self.netns_names:
            columns += f"{'NETNS NAME':^{self.netns_names.width}} "
        if self._decoder.parts.tuple:
            columns += "TUPLE "
        return f"{columns}FUNC{' CALLER' * self.caller}{' TUNNEL' * self._decoder.parts.tunnel}\n"

    def skb(self, address: int) -> str:
        return f"{address:<#18x} "

    def task(self, task: Task) -> str:
        return f"{task.cpu:<3} {task_text(task):<16} "

    def packet(self, packet: Packet) -> str:
        columns = self._meta(packet.meta) if packet.meta else ""
        if packet.cb is not None:
            columns += f"[{','.join(f'0x{word:08X}' for word in packet.cb)}] "
        if self.netns_names and packet.meta:
            width = self.netns_names.width
            columns += f"{(self.netns_names.get(packet.meta.netns) or '')[:width]:^{width}} "
        if not self._decoder.parts.tuple:
            return columns
        addresses = tuple_text(packet.tuple)
        if len(addresses) > self._tuple_width:
            # The column only grows: what is kept at the old width is formatted anew.
            self._tuple_width = len(addresses)
            self._packets.clear()
        return f"{columns}{addresses:<{self._tuple_width}} "

    def _meta(self, m: Meta) -> str:
        return f"{m.netns:<10} {m.mark:<8x} {iface_text(m):^16} 0x{m.protocol:04x} {m.mtu:<5} {m.len:<5} "

    def function(self, function: Function) -> str:
        if not self.caller:
            return f"{function.name} {function.caller}" if function.caller else function.name
        if len(function.name) > self._func_width:
            self._func_width = len(function.name)  # grows, as that of the tuple
            self._functions.clear()
        return f"{function.name:<{self._func_width}} {function.caller}"

    def tail(self, packet: Packet) -> str:
        return f" {tuple_text(packet.tunnel)}" if packet.tunnel else ""

    def time(self, moment: int | str) -> str:
        return f"{moment:<{23 if self.time_first else 16}} "
