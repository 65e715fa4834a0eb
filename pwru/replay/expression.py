"""A condition on fields of the skb, such as `skb->mark == 1`, for events of a recording.

Fields are those that the recording was asked for, and those that every event has in its part `meta`. Of an skb without
a device, that part names the one of its socket or route, where the kernel's own fields would be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pwru.filter.expression.recorded import Condition
from pwru.filter.expression.tree import CType

if TYPE_CHECKING:
    from pwru.record.parts import Meta
    from pwru.record.schema import Schema


class _Known(NamedTuple):
    type: CType
    value: Callable[[Meta], int]


_U16, _U32, _S32 = CType(16, signed=False), CType(32, signed=False), CType(32, signed=True)
_META = {
    "skb->mark": _Known(_U32, lambda meta: meta.mark),
    "skb->len": _Known(_U32, lambda meta: meta.len),
    "skb->protocol": _Known(_U16, lambda meta: int.from_bytes(meta.protocol.to_bytes(2, "big"), "little")),
    "skb->dev->ifindex": _Known(_S32, lambda meta: meta.ifindex),
    "skb->dev->mtu": _Known(_U32, lambda meta: meta.mtu),
    "skb->dev->nd_net.net->ns.inum": _Known(_U32, lambda meta: meta.netns),
}


class ExpressionTest:
    """Tells whether the condition holds for what these `columns` of an event have."""

    def __init__(self, text: str, schema: Schema) -> None:
        """Raises PwruError for a mistake, and for a field that was not recorded."""
        self._schema = schema
        own = {field.name: CType(field.bits, field.signed) for field in schema.fields if field.of == "skb"}
        meta = {name: known.type for name, known in _META.items()} if "meta" in schema.parts else {}
        self._condition = Condition(text, meta | own)
        self._of_meta = {name: _META[name].value for name in self._condition.fields - own.keys()}
        self._has_own = bool(self._condition.fields & own.keys())
        self.columns = (
            ("packet", "details") if self._of_meta and self._has_own else ("details",) if self._has_own else ("packet",)
        )

    def __call__(self, raw: Any) -> bool:
        """`raw`: the bytes of the column, or a tuple of those of both."""
        packet, details = raw if len(self.columns) == 2 else (raw, raw)
        values: dict[str, int] = {}
        if self._of_meta:
            meta = self._schema.packet(packet)["meta"]
            values = {name: value(meta) for name, value in self._of_meta.items()}
        if self._has_own:
            own = self._schema.values(self._schema.details(details), "skb")
            if own is None:  # a frame of XDP: no skb, and no such condition
                return True
            values |= {field.name: value for field, value in own}
        return self._condition.holds(values)
