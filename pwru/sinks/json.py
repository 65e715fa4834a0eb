"""Events as JSON, one object a line, with the keys of the text's columns.

Every key that the flags ask for is in every object. `sport` and `dport` are null where a packet has no ports, `tuple`
where it has no IP header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pwru.sinks.lines import Format
from pwru.sinks.text import flags_text, iface_text, task_text

if TYPE_CHECKING:
    from pwru.record.event import Function, Packet, Task, Tuple


def _members(value: Mapping[str, object]) -> str:
    """The members of an object without its braces, to be joined to others."""
    return json.dumps(value, separators=(",", ":"))[1:-1]


class Json(Format):
    end = "}\n"

    def skb(self, address: int) -> str:
        return f'{{"skb":"{address:#x}",'

    def task(self, task: Task) -> str:
        return _members({"cpu": task.cpu, "process": task_text(task)}) + ","

    def packet(self, packet: Packet) -> str:
        members: dict[str, object] = {}
        if m := packet.meta:
            members = {"netns": m.netns, "mark": m.mark, "iface": iface_text(m)}
            members |= {"proto": m.protocol, "mtu": m.mtu, "len": m.len}
            if self.netns_names:
                members["netns_name"] = self.netns_names.get(m.netns)
        if packet.cb is not None:
            members["cb"] = packet.cb
        if self._decoder.parts.tuple:
            members["tuple"] = self._tuple(packet.tuple)
        if self._decoder.parts.tunnel:
            members["tunnel_tuple"] = self._tuple(packet.tunnel)
        return _members(members) + "," if members else ""

    def _tuple(self, t: Tuple | None) -> dict[str, object] | None:
        if t is None:
            return None
        members: dict[str, object] = {"saddr": t.saddr, "daddr": t.daddr}
        members |= {"sport": t.sport, "dport": t.dport, "proto": t.protocol}
        if self._decoder.parts.tcp_flags:
            members["flags"] = flags_text(t.flags)
        return members

    def tail(self, packet: Packet) -> str:
        return ""

    def function(self, function: Function) -> str:
        members = {"func": function.name}
        if function.caller or self.caller:
            members["caller_func"] = function.caller
        return _members(members)

    def details(self, run: bytes) -> str:
        return "," + _members(self.more.members(run)) if self.more else ""

    def time(self, moment: int | str) -> str:
        return _members({"time": moment}) + ","
