"""Events as JSON, one object a line, with the keys of the text's columns.

Every key is in every object. `sport` and `dport` are null where a packet has no ports, `tuple` where it has no IP
header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pwru.output import keep
from pwru.output.text import cut, iface_text

if TYPE_CHECKING:
    from pwru.event import Decoder, Record, Symbolize


def _members(value: Mapping[str, object]) -> str:
    """The members of an object without its braces, to be joined to others."""
    return json.dumps(value, separators=(",", ":"))[1:-1]


class Json:
    def __init__(self, decoder: Decoder, symbolize: Symbolize) -> None:
        self._decoder = decoder
        self._symbolize = symbolize
        self._process: dict[bytes, str] = {}
        self._packet: dict[bytes, str] = {}
        self._function: dict[tuple[int, int, int], str] = {}

    def header(self) -> str:
        return ""

    def events(self, records: list[Record]) -> str:
        processes, packets, functions = self._process, self._packet, self._function
        lines = []
        for _, _, skb, addr, location, cpu, reason, process, packet in records:
            process_text = processes.get(process) or self._format_process(process)
            packet_text = packets.get(packet) or self._format_packet(packet)
            function = functions.get((addr, reason, location)) or self._format_function(addr, reason, location)
            lines.append(f'{{"skb":"0x{skb:x}","cpu":{cpu},{process_text},{function},{packet_text}}}\n')
        return "".join(lines)

    def _format_process(self, run: bytes) -> str:
        process = self._decoder.process(run)
        return keep(self._process, run, _members({"process": cut(f"{process.comm}:{process.pid}")}))

    def _format_packet(self, run: bytes) -> str:
        p = self._decoder.packet(run)
        t = p.tuple
        members = {
            "netns": p.netns,
            "mark": p.mark,
            "iface": iface_text(p),
            "proto": p.protocol,
            "mtu": p.mtu,
            "len": p.len,
            "tuple": t
            and {"saddr": t.saddr, "daddr": t.daddr, "sport": t.sport, "dport": t.dport, "proto": t.protocol},
        }
        return keep(self._packet, run, _members(members))

    def _format_function(self, addr: int, reason: int, location: int) -> str:
        function = self._symbolize(addr, reason, location)
        members = {"func": function.name}
        if function.caller:
            members["caller_func"] = function.caller
        return keep(self._function, (addr, reason, location), _members(members))
