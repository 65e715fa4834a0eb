"""What is printed of an event beyond its columns: values of fields after FUNC, and blocks of lines below the row."""

import base64
from collections.abc import Mapping
from typing import Any

from pwru.record.names import Names
from pwru.record.parts import Field, Payload
from pwru.record.schema import Schema

STACK_FRAMES = 50  # of a stack are printed
_LINE = 16


class Details:
    """The parts of the section DETAILS as text and as JSON."""

    def __init__(self, schema: Schema, names: Names) -> None:
        self._schema = schema
        self._names = names

    def text(self, raw: bytes) -> str:
        """Return what follows the columns of the row."""
        parts = self._schema.details(raw)
        text = [f" {_last(field.name)}={value}" for field, value in self._values(parts)]
        text += [f" {key}={value}" for key, value in self._schema.keyed(parts).items()]
        text += [f"\n{frame}" for frame in self._stack(parts)]
        text += [f"\n{self._names.dump(name, parts[name])}" for name in ("skb", "shared_info") if name in parts]
        if "payload" in parts:
            text.append(f"\n{hex_dump(parts['payload'])}")
        return "".join(text)

    def members(self, raw: bytes) -> dict[str, object]:
        """Return members of the JSON object. The key of the skb is the Go tool's, unless that is taken."""
        parts = self._schema.details(raw)
        members: dict[str, object] = {}
        if "stack" in parts:
            members["stack"] = self._stack(parts)
        if "skb" in parts:
            members["sk_buff" if "values" in parts else "skb_metadata"] = self._names.dump("skb", parts["skb"])
        if "values" in parts:
            members["skb_metadata"] = {field.name: value for field, value in self._values(parts)}
        if "shared_info" in parts:
            members["skb_shared_info"] = self._names.dump("shared_info", parts["shared_info"])
        members |= self._schema.keyed(parts)
        payload: Payload | None = parts.get("payload")
        if payload:
            members["payload"] = base64.b64encode(payload.data).decode()
            members["payload_len"] = payload.length
            members["payload_has_mac"] = payload.has_mac
        return members

    def _values(self, parts: Mapping[str, Any]) -> list[tuple[Field, int]]:
        pairs = zip(self._schema.fields, parts.get("values", ()), strict=True)
        return [(field, value - (1 << 64) if field.signed and value >> 63 else value) for field, value in pairs]

    def _stack(self, parts: Mapping[str, Any]) -> list[str]:
        return self._names.stack(*parts["stack"])[:STACK_FRAMES] if "stack" in parts else []


def _last(name: str) -> str:
    """Return `mtu` for `skb->dev->mtu`, as the Go tool prints it."""
    return name.replace("->", ".").rpartition(".")[2]


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
