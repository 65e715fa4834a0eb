"""Events as lines of text, in the columns that users of pwru have in their scripts.

A line is a few look-ups in caches: what repeats along a packet's way (process, metadata and addresses, function) is
formatted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pwru.output import keep

if TYPE_CHECKING:
    from pwru.event import Decoder, Function, Packet, Record, Symbolize, Tuple

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


class Text:
    def __init__(self, decoder: Decoder, symbolize: Symbolize) -> None:
        self._decoder = decoder
        self._symbolize = symbolize
        self._tuple_width = len("TUPLE")
        self._process: dict[bytes, str] = {}
        self._packet: dict[bytes, str] = {}
        self._function: dict[tuple[int, int, int], str] = {}

    def header(self) -> str:
        return (
            f"{'SKB':<18} {'CPU':<3} {'PROCESS':<16} {'NETNS':<10} {'MARK/x':<8} {'IFACE':^16} {'PROTO':<6} "
            f"{'MTU':<5} {'LEN':<5} TUPLE FUNC\n"
        )

    def events(self, records: list[Record]) -> str:
        processes, packets, functions = self._process, self._packet, self._function
        lines = []
        for _, _, skb, addr, location, cpu, reason, process, packet in records:
            process_text = processes.get(process) or self._format_process(process)
            packet_text = packets.get(packet) or self._format_packet(packet)
            function = functions.get((addr, reason, location)) or self._format_function(addr, reason, location)
            lines.append(f"{skb:<#18x} {cpu:<3} {process_text} {packet_text} {function}\n")
        return "".join(lines)

    def _format_process(self, run: bytes) -> str:
        process = self._decoder.process(run)
        return keep(self._process, run, f"{cut(f'{process.comm}:{process.pid}'):<16}")

    def _format_packet(self, run: bytes) -> str:
        p = self._decoder.packet(run)
        addresses = tuple_text(p.tuple)
        if len(addresses) > self._tuple_width:
            # The column only grows: what is kept at the old width is formatted anew.
            self._tuple_width = len(addresses)
            self._packet.clear()
        return keep(
            self._packet,
            run,
            f"{p.netns:<10} {p.mark:<8x} {iface_text(p):^16} 0x{p.protocol:04x} {p.mtu:<5} {p.len:<5} "
            f"{addresses:<{self._tuple_width}}",
        )

    def _format_function(self, addr: int, reason: int, location: int) -> str:
        return keep(self._function, (addr, reason, location), _function_text(self._symbolize(addr, reason, location)))


def _function_text(function: Function) -> str:
    return f"{function.name} {function.caller}" if function.caller else function.name
