"""What is shown of records that have more, and what they lack of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pwru.errors import PwruError
from pwru.record.parts import Field
from pwru.record.schema import Schema

_DEFAULT = ("meta", "tuple")  # these are shown if they are there
# What parts are called where one asks for them, if not by their name.
_CALLED = {"location": "caller", "skb": "sk_buff", "time": "timestamp"}


class Shown(NamedTuple):
    """Parts with their sizes, as a request has them, and the names of fields of skbs and of frames of XDP."""

    parts: Mapping[str, int]
    tcp_flags: bool = False
    skb_metadata: Sequence[str] = ()
    xdp_metadata: Sequence[str] = ()

    def of(self, schema: Schema) -> Schema:
        """Return the schema with this alone. Raises PwruError for what the records do not have."""
        parts = dict(self.parts)
        fields = [*_fields(schema, self.skb_metadata, "skb"), *_fields(schema, self.xdp_metadata, "xdp")]
        if fields:
            parts["values"] = 0
        for part in parts:
            if part not in _DEFAULT:
                check_recorded(schema, part)
        if self.tcp_flags and not schema.tcp_flags:
            raise not_recorded("tcp_flags")
        size = parts.get("payload", 0)
        recorded = next((slot.size for slot in schema.slots if slot.part == "payload"), 0)
        if size > recorded:
            raise PwruError(f"the recording has {recorded} bytes of each packet; `payload` with more records more")
        return schema.narrowed(parts, fields, tcp_flags=self.tcp_flags)


def check_recorded(schema: Schema, part: str) -> None:
    """Raise PwruError if the records have no such part."""
    if part not in schema.parts:
        raise not_recorded(_CALLED.get(part, part))


def not_recorded(what: str) -> PwruError:
    return PwruError(f"this was not recorded: `{what}` must be given when the recording is made")


def _fields(schema: Schema, asked: Sequence[str], of: str) -> list[Field]:
    known = {_plain(field.name): field for field in schema.fields if field.of == of}
    for name in asked:
        if _plain(name) not in known:
            there = f"; recorded are {', '.join(field.name for field in known.values())}" if known else ""
            raise PwruError(f"the values of {name} were not recorded: see `{of}_metadata`{there}")
    return [known[_plain(name)] for name in asked]


def _plain(name: str) -> str:
    return "".join(name.split())
