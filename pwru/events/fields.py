"""The table of the columns that Arrow and Parquet get: the name, the type, and what it is made of."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pwru.record.parts import Field
from pwru.record.schema import Schema

TEXT = pa.dictionary(pa.int32(), pa.string())
BYTES = pa.dictionary(pa.int32(), pa.binary())
Fields = dict[str, tuple[Any, str]]  # the type, and the column of Record, by the name

_TIME = {"time": pa.timestamp("ns", "UTC"), "time_ns": pa.int64()}
_FOLLOW = {"packet": pa.uint64(), "instance": pa.uint32(), "packet_id": TEXT}
_TASK = {"cpu": pa.uint32(), "pid": pa.uint32(), "comm": TEXT}
_HIT = {"function": TEXT, "dropped": pa.bool_(), "reason": TEXT, "verdict": TEXT}
_RELATION = {
    "relation": TEXT,
    "parent_packet": pa.uint64(),
    "parent_instance": pa.uint32(),
    "transmission": pa.uint16(),
    "segment": pa.uint16(),
    "tracked_by": TEXT,
    "ended": pa.bool_(),
}
_META = {
    "netns": pa.uint32(),
    "netns_name": TEXT,
    "mark": pa.uint32(),
    "ifindex": pa.uint32(),
    "ifname": TEXT,
    "mtu": pa.uint32(),
    "len": pa.uint32(),
    "protocol": pa.uint16(),
}
_TUPLE = {
    "ip_version": pa.uint8(),
    "saddr": TEXT,
    "daddr": TEXT,
    "sport": pa.uint16(),
    "dport": pa.uint16(),
    "l4_protocol": pa.uint8(),
    "tcp_flags": pa.uint8(),
    "from_sock": pa.bool_(),
}
_PAYLOAD = {"payload": BYTES, "payload_len": pa.uint32(), "payload_has_mac": pa.bool_()}
_TEXTS = {
    "stack": {"stack": pa.list_(pa.string())},
    "skb": {"sk_buff": TEXT},
    "shared_info": {"skb_shared_info": TEXT},
    "bpfmap": {"map_id": pa.uint32(), "map_name": TEXT, "map_key": BYTES, "map_value": BYTES, "map_found": pa.bool_()},
}


def fields_of(schema: Schema) -> Fields:
    """Return the columns of events with this schema."""
    parts, fields = schema.parts, Fields()

    def add(of: str, types: dict[str, Any]) -> None:
        fields.update({name: (kind, of) for name, kind in types.items()})

    if "time" in parts:
        add("time", _TIME)
    if "follow" in parts:
        add("follow", _FOLLOW)
    add("skb", {"skb": pa.uint64()})
    add("task", _TASK)
    add("hit", _HIT)
    if "location" in parts:
        add("hit", {"caller": TEXT})
    if "follow" in parts:
        add("follow", _RELATION)
    if "meta" in parts:
        add("packet", _META)
    for part, prefix in (("tuple", ""), ("tunnel", "tunnel_")):
        if part in parts:
            add("packet", {prefix + name: kind for name, kind in _TUPLE.items() if _has(schema, name)})
    if "cb" in parts:
        add("packet", {"cb": pa.list_(pa.uint32(), schema.structs.layout("cb").size_of("words") // 4)})
    if "payload" in parts:
        add("details", _PAYLOAD)
    for field in schema.fields:
        add("details", {field.name: number(field)})
    for part, types in _TEXTS.items():
        if part in parts:
            add("details", types)
    return fields


def number(field: Field) -> Any:
    return pa.int64() if field.signed else pa.uint64()


def _has(schema: Schema, name: str) -> bool:
    return name != "tcp_flags" or schema.tcp_flags
