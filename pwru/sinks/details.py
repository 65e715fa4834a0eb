"""What is printed of an event beyond its columns: values of fields behind FUNC, and blocks of lines below the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pwru.filter.expression import Value
    from pwru.kernel.dump import Dump
    from pwru.record.event import Decoder, Payload

# As many frames of a stack are printed.
STACK_FRAMES = 50
_LINE = 16


class Describe(NamedTuple):
    """What it takes to print them; of what a run does not ask for it is not there."""

    decoder: Decoder
    values: Sequence[Value] = ()
    # From the caller and the frames to those from the caller on, as text.
    stack: Callable[[int, Sequence[int]], list[str]] | None = None
    skb: Dump | None = None
    shared_info: Dump | None = None

    def text(self, run: bytes) -> str:
        """Behind the columns of the row."""
        details = self.decoder.details(run)
        parts = [f" {_last(value.name)}={_signed(value, raw)}" for value, raw in zip(self.values, details.values)]  # noqa: B905
        if self.stack:
            parts += [f"\n{frame}" for frame in self.stack(details.caller, details.frames)[:STACK_FRAMES]]
        if self.skb:
            parts.append(f"\n{self.skb(details.skb)}")
        if self.shared_info:
            parts.append(f"\n{self.shared_info(details.shared_info)}")
        if details.payload:
            parts.append(f"\n{hex_dump(details.payload)}")
        return "".join(parts)

    def members(self, run: bytes) -> dict[str, object]:
        """Of the JSON object. The key of the skb is that of the Go tool, unless that is taken."""
        details = self.decoder.details(run)
        members: dict[str, object] = {}
        if self.stack:
            members["stack"] = self.stack(details.caller, details.frames)[:STACK_FRAMES]
        if self.skb:
            members["sk_buff" if self.values else "skb_metadata"] = self.skb(details.skb)
        if self.values:
            pairs = zip(self.values, details.values, strict=True)
            members["skb_metadata"] = {value.name: _signed(value, raw) for value, raw in pairs}
        if self.shared_info:
            members["skb_shared_info"] = self.shared_info(details.shared_info)
        if payload := details.payload:
            import base64

            members["payload"] = base64.b64encode(payload.data).decode()
            members["payload_len"] = payload.length
            members["payload_has_mac"] = payload.has_mac
        return members


def _signed(value: Value, raw: int) -> int:
    return raw - (1 << 64) if value.signed and raw >> 63 else raw


def _last(name: str) -> str:
    """`mtu` of `skb->dev->mtu`, as the Go tool prints it."""
    return name.replace("->", ".").rpartition(".")[2]


def hex_dump(payload: Payload) -> str:
    """As tcpdump -xx and -X print it, below a line that says what it is."""
    data = payload.data
    begin = "MAC" if payload.has_mac else "network"
    lines = [f"{len(data)} of {payload.length} bytes, from the {begin} header on:"]
    for at in range(0, len(data), _LINE):
        row = data[at : at + _LINE]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"\t0x{at:04x}:  {row.hex(' ', -2):<39}  {text}")
    return "\n".join(lines)
