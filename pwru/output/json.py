"""Events as JSON, one object a line, with the keys of the text's columns.

Every key is in every object. `sport` and `dport` are null where a packet has no ports, `tuple` where it has no IP
header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pwru.output import Format
from pwru.output.text import cut, iface_text

if TYPE_CHECKING:
    from pwru.event import Function, Packet, Process


def _members(value: Mapping[str, object]) -> str:
    """The members of an object without its braces, to be joined to others."""
    return json.dumps(value, separators=(",", ":"))[1:-1]


class Json(Format):
    LINE = '{"skb":"%#x","cpu":%d,%s,%s,%s}\n'

    def process(self, process: Process) -> str:
        return _members({"process": cut(f"{process.comm}:{process.pid}")})

    def packet(self, packet: Packet) -> str:
        p, t = packet, packet.tuple
        return _members(
            {
                "netns": p.netns,
                "mark": p.mark,
                "iface": iface_text(p),
                "proto": p.protocol,
                "mtu": p.mtu,
                "len": p.len,
                "tuple": t
                and {"saddr": t.saddr, "daddr": t.daddr, "sport": t.sport, "dport": t.dport, "proto": t.protocol},
            }
        )

    def function(self, function: Function) -> str:
        members = {"func": function.name}
        if function.caller:
            members["caller_func"] = function.caller
        return _members(members)
