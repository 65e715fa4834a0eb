"""Events as JSON, one object per line, with the keys of the text's columns.

Every key that the run asks for is in every object. `sport` and `dport` are null for a packet without ports, `tuple` for
one without an IP header; `packet` and `instance` for one that is not followed, `instance` alone for an skb that is not
of the packet below whose function it is worked on. Few keys are not in all of them:
`tuple_from` says that the packet has no headers yet and its socket gave the tuple; `transmission` and `segment` are not
0; an event that tells a `relation` has its `parent`; `verdict` is what a BPF program returned at its exit.
"""

import json
from collections.abc import Mapping
from typing import Any

from pwru.record.account import Account
from pwru.record.event import Task
from pwru.record.follow import OTHER, Skb
from pwru.record.names import Function
from pwru.record.parts import FlowTuple, Follow, Meta
from pwru.sinks.lines import Format
from pwru.sinks.text import flags_text, iface_text, task_text


def _members(value: Mapping[str, object]) -> str:
    """Return the members of an object without its braces, to be joined to others."""
    return json.dumps(value, separators=(",", ":"))[1:-1]


def numbers(skb: Skb | None) -> str:
    """Return which packet it is and which skb of it, both null if it is not followed."""
    if not skb:
        return '"packet":null,"instance":null'
    return f'"packet":{skb.packet.number},"instance":{"null" if skb.instance == OTHER else skb.instance}'


class Json(Format):
    end = "}\n"

    @staticmethod
    def account(account: Account) -> str:
        return account.json()

    def skb(self, address: int) -> str:
        return f'{{"skb":"{address:#x}",'

    def follow(self, event: Follow, skb: Skb | None, parent: Skb | None) -> tuple[str, str, str]:
        members = f'{numbers(skb)},"tracked_by":"{event.tracked_by}",'
        if event.transmission:
            members += f'"transmission":{event.transmission},'
        if event.segment:
            members += f'"segment":{event.segment},'
        if event.relation:
            members += f'"relation":"{event.relation}","parent":{{{numbers(parent)}}},'
        return "", members, ""

    def task(self, task: Task) -> str:
        return _members({"cpu": task.cpu, "process": task_text(task)}) + ","

    def packet(self, parts: Mapping[str, Any]) -> str:
        members: dict[str, object] = {}
        meta: Meta | None = parts.get("meta")
        if meta:
            members = {"netns": meta.netns, "mark": meta.mark, "iface": iface_text(meta)}
            members |= {"proto": meta.protocol, "mtu": meta.mtu, "len": meta.len}
            if self.netns_names:
                members["netns_name"] = self.netns_names.get(meta.netns)
        members |= self.schema.keyed(parts)
        if "tuple" in parts:
            members["tuple"] = self._tuple(parts["tuple"])
            if parts["tuple"] and parts["tuple"].from_sock:
                members["tuple_from"] = "sock"
        if "tunnel" in parts:
            members["tunnel_tuple"] = self._tuple(parts["tunnel"])
        return _members(members) + "," if members else ""

    def _tuple(self, t: FlowTuple | None) -> dict[str, object] | None:
        if t is None:
            return None
        members: dict[str, object] = {"saddr": t.saddr, "daddr": t.daddr}
        members |= {"sport": t.sport, "dport": t.dport, "proto": t.protocol}
        if self.schema.tcp_flags:
            members["flags"] = flags_text(t.flags)
        return members

    def function(self, function: Function) -> str:
        members = {"func": function.name}
        if function.caller or self.style.caller:
            members["caller_func"] = function.caller
        if function.verdict:
            members["verdict"] = function.verdict
        return _members(members)

    def details(self, raw: bytes) -> str:
        return "," + _members(self.more.members(raw)) if self.more else ""

    def time(self, moment: int | str) -> str:
        return _members({"time": moment}) + ","
