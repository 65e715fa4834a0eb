"""What is printed of an event beyond its columns: values of fields after FUNC, and blocks of lines below the row."""

import base64
from collections.abc import Mapping
from typing import Any

from pwru.record.names import Names
from pwru.record.parts import BpfMap, Payload
from pwru.record.schema import Schema

STACK_FRAMES = 50  # of a stack are printed
_LINE = 16


class Details:
    """The parts of the section DETAILS as text and as JSON."""

    def __init__(self, schema: Schema, names: Names) -> None:
        self._schema = schema
        self._names = names
        self._carriers = list(dict.fromkeys(field.of for field in schema.fields))

    def text(self, raw: bytes) -> str:
        """Return what follows the columns of the row."""
        return self.text_of(self._schema.details(raw))

    def text_of(self, parts: dict[str, Any]) -> str:
        """Return the same of parts that are decoded."""
        text = []
        for of in self._carriers:
            text += [f" {_last(field.name)}={value}" for field, value in self._schema.values(parts, of) or ()]
        text += [f" {key}={value}" for key, value in self._schema.keyed(parts).items()]
        text += [f"\n{frame}" for frame in self._stack(parts)]
        text += [f"\n{self._names.dump(name, parts[name])}" for name in ("skb", "shared_info") if name in parts]
        if "payload" in parts:
            text.append(f"\n{hex_dump(parts['payload'])}")
        if parts.get("bpfmap"):
            text.append(f"\n{map_text(parts['bpfmap'])}")
        return "".join(text)

    def members(self, raw: bytes) -> dict[str, object]:
        """Return members of the JSON object. The key of the skb is the Go tool's, unless that is taken.

        Fields of an skb are null in an event of a frame of XDP, and the other way round.
        """
        parts = self._schema.details(raw)
        members: dict[str, object] = {}
        if "stack" in parts:
            members["stack"] = self._stack(parts)
        if "skb" in parts:
            key = "sk_buff" if "skb" in self._carriers else "skb_metadata"
            members[key] = self._names.dump("skb", parts["skb"])
        for of in self._carriers:
            values = self._schema.values(parts, of)
            members[f"{of}_metadata"] = None if values is None else {field.name: value for field, value in values}
        if "shared_info" in parts:
            members["skb_shared_info"] = self._names.dump("shared_info", parts["shared_info"])
        members |= self._schema.keyed(parts)
        payload: Payload | None = parts.get("payload")
        if payload:
            members["payload"] = base64.b64encode(payload.data).decode()
            members["payload_len"] = payload.length
            members["payload_has_mac"] = payload.has_mac
        if "bpfmap" in parts:
            members["bpf_map"] = _map_members(parts["bpfmap"])
        return members

    def _stack(self, parts: Mapping[str, Any]) -> list[str]:
        return self._names.stack(*parts["stack"])[:STACK_FRAMES] if "stack" in parts else []


def _last(name: str) -> str:
    """Return `mtu` for `skb->dev->mtu`, as the Go tool prints it."""
    return name.replace("->", ".").rpartition(".")[2]


def map_text(used: BpfMap) -> str:
    """Return the operation of a map in one line: `map flows (id 12): key 0a 00 00 01, value not found`."""
    said = []
    if used.key is not None:
        said.append(f"key {_bytes_text(used.key, used.key_size)}")
    if used.value is not None:
        said.append(f"value {_bytes_text(used.value, used.value_size)}")
    if not used.found:
        said.append("value not found")
    return f"map {used.name} (id {used.id})" + (f": {', '.join(said)}" if said else "")


def _bytes_text(data: bytes, size: int) -> str:
    return data.hex(" ") + (f" … ({len(data)} of {size} bytes)" if len(data) < size else "")


def _map_members(used: BpfMap | None) -> dict[str, object] | None:
    """Return the members of the JSON object; bytes in hex, fewer than the sizes say if they were cut."""
    if used is None:
        return None
    return {
        "name": used.name,
        "id": used.id,
        "key": used.key.hex() if used.key is not None else None,
        "key_size": used.key_size,
        "value": used.value.hex() if used.value is not None else None,
        "value_size": used.value_size,
        "found": used.found,
    }


def hex_dump(payload: Payload) -> str:
    """Return the packet as tcpdump -xx and -X print it, below a line that says what it is."""
    data = payload.data
    begin = "MAC" if payload.has_mac else "network"
    lines = [f"{len(data)} of {payload.length} bytes, from the {begin} header on:"]
    for at in range(0, len(data), _LINE):
        row = data[at : at + _LINE]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"\t0x{at:04x}:  {row.hex(' ', -2):<39}  {text}")
    return "\n".join(lines)
