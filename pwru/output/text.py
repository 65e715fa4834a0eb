"""Events as lines of text, in the columns that users of pwru have in their scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pwru.output import Format

if TYPE_CHECKING:
    from pwru.event import Decoder, Function, Packet, Process, Symbolize, Tuple

NAME_WIDTH = 16
L4_NAMES = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 89: "ospf",
            103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}  # fmt: skip
# These are printed with ports although they have none: a column that scripts split at the colons.
_PORTLESS = {1, 58}


def cut(name: str) -> str:
    """The end of a name that is too long for its column is what tells it from others (a PID, an index)."""
    return name if len(name) <= NAME_WIDTH else "~" + name[1 - NAME_WIDTH :]


def iface_text(packet: Packet) -> str:
    return cut(f"{packet.ifname}:{packet.ifindex}") if packet.ifname else str(packet.ifindex)


def tuple_text(t: Tuple | None) -> str:
    """`S:SP->D:DP(proto)`; a later fragment has no ports, what is not IP has no tuple."""
    if t is None:
        return ""
    source, destination = (t.saddr, t.daddr) if t.ip_version == 4 else (f"[{t.saddr}]", f"[{t.daddr}]")
    if t.sport is not None:
        source, destination = f"{source}:{t.sport}", f"{destination}:{t.dport}"
    elif t.protocol in _PORTLESS:
        source, destination = f"{source}:0", f"{destination}:0"
    return f"{source}->{destination}({L4_NAMES.get(t.protocol, t.protocol)})"


class Text(Format):
    LINE = "%#-18x %-3d %s %s %s\n"

    def __init__(self, decoder: Decoder, symbolize: Symbolize) -> None:
        super().__init__(decoder, symbolize)
        self._tuple_width = len("TUPLE")

    def header(self) -> str:
        return (
            f"{'SKB':<18} {'CPU':<3} {'PROCESS':<16} {'NETNS':<10} {'MARK/x':<8} {'IFACE':^16} {'PROTO':<6} "
            f"{'MTU':<5} {'LEN':<5} TUPLE FUNC\n"
        )

    def process(self, process: Process) -> str:
        return f"{cut(f'{process.comm}:{process.pid}'):<16}"

    def packet(self, packet: Packet) -> str:
        p, addresses = packet, tuple_text(packet.tuple)
        if len(addresses) > self._tuple_width:
            # The column only grows: what is kept at the old width is formatted anew.
            self._tuple_width = len(addresses)
            self._packets.clear()
        return (
            f"{p.netns:<10} {p.mark:<8x} {iface_text(p):^16} 0x{p.protocol:04x} {p.mtu:<5} {p.len:<5} "
            f"{addresses:<{self._tuple_width}}"
        )

    def function(self, function: Function) -> str:
        return f"{function.name} {function.caller}" if function.caller else function.name
