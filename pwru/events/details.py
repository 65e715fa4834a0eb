"""Parts that few runs have, for Arrow: decoded one distinct value after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pwru.events.fields import number
from pwru.record.names import Names
from pwru.record.parts import BpfMap
from pwru.record.schema import Schema, Values


class Details:
    """Decodes the section DETAILS but for the packet's bytes."""

    def __init__(self, schema: Schema, names: Names) -> None:
        self._schema, self._names = schema, names

    def arrays(self, values: Sequence[bytes]) -> dict[str, Any]:
        """Return the fields by name, one value for each of these."""
        decoded = [self._schema.details(raw) for raw in values]
        arrays: dict[str, Any] = self._fields(decoded)
        if "stack" in self._schema.parts:
            stacks = [self._names.stack(*parts["stack"]) for parts in decoded]
            arrays["stack"] = pa.array(stacks, pa.list_(pa.string()))
        for part, name in (("skb", "sk_buff"), ("shared_info", "skb_shared_info")):
            if part in self._schema.parts:
                arrays[name] = pa.array([self._names.dump(part, parts[part]) for parts in decoded], pa.string())
        if "bpfmap" in self._schema.parts:
            used: list[BpfMap | None] = [parts["bpfmap"] for parts in decoded]
            kinds = {
                "id": pa.uint32(),
                "name": pa.string(),
                "key": pa.binary(),
                "value": pa.binary(),
                "found": pa.bool_(),
            }
            for member, kind in kinds.items():
                arrays[f"map_{member}"] = pa.array([each and getattr(each, member) for each in used], kind)
        return arrays

    def _fields(self, decoded: Sequence[Values]) -> dict[str, Any]:
        """Return the values that were asked for; null in an event of a frame of XDP for those of an skb, and so on."""
        arrays = {}
        for of in dict.fromkeys(field.of for field in self._schema.fields):
            each = [dict(self._schema.values(parts, of) or ()) for parts in decoded]
            for field in (field for field in self._schema.fields if field.of == of):
                arrays[field.name] = pa.array([values.get(field) for values in each], number(field))
        return arrays
