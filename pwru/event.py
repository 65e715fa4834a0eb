"""The wire record ⇄ Python: what the BPF programs send, decoded in bulk.

The layout comes from the BTF of the BPF object (`struct event` in bpf/pwru.h), so the two cannot get out of step. An
event stays a tuple of integers and two runs of bytes, `process` and `packet`: those repeat, so formatters decode and
format each distinct run once and keep the text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pwru.errors import PwruError, printable

if TYPE_CHECKING:
    from pwru.kernel.btf import Btf

# One record of the ring buffer: its header (length with the busy bit, page offset), then struct event by its members:
# skb, addr, location, cpu, reason, process, packet.
Record = tuple[int, int, int, int, int, int, int, bytes, bytes]
EVENT_FIELDS = ("skb", "addr", "location", "cpu", "reason", "process", "packet")

PACKET_FIELDS = (
    "netns", "mark", "ifindex", "mtu", "len", "protocol", "sport", "dport", "ip_version", "l4_protocol", "has_ports",
    "ifname", "saddr", "daddr",
)  # fmt: skip

_INTEGER = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Process(NamedTuple):
    pid: int
    comm: str


class Tuple(NamedTuple):
    """Addresses as text; ports are None where the packet has none or not in this fragment."""

    ip_version: int
    saddr: str
    daddr: str
    sport: int | None
    dport: int | None
    protocol: int


class Packet(NamedTuple):
    """`ifname` is empty and `ifindex` 0 where the packet has no device; `tuple` is None where it has no IP header."""

    netns: int
    mark: int
    ifindex: int
    ifname: str
    mtu: int
    len: int
    protocol: int
    tuple: Tuple | None


class Function(NamedTuple):
    """What a probe hit: its name as printed, and where a drop happened if the probe tells."""

    name: str
    caller: str


def _text(raw: bytes) -> str:
    """A C string of the kernel as text that is safe to print: control characters and broken UTF-8 are escaped."""
    return printable(raw.partition(b"\0")[0].decode(errors="backslashreplace"))


_MISMATCH = "the BPF object does not belong to this version of pwru; rebuild it: make build"


def _layout(btf: Btf, name: str, expected: tuple[str, ...], prefix: str = "") -> struct.Struct:
    """A structure of the object's BTF as a struct.Struct; members that are not integers become runs of bytes."""
    found = btf.struct(name)
    if found is None or tuple(member.name for member in found.members) != expected:
        raise PwruError(_MISMATCH)
    parts, end = ["=" + prefix], 0
    for member in found.members:
        parts.append(f"{member.offset - end}x" if member.offset > end else "")
        parts.append(_INTEGER[member.size] if member.is_int else f"{member.size}s")
        end = member.offset + member.size
    parts.append(f"{found.size - end}x" if found.size > end else "")
    return struct.Struct("".join(parts))


def pack(btf: Btf, name: str, values: dict[str, int]) -> bytes:
    """The bytes of a structure of integers; `values` are its members in their order."""
    return _layout(btf, name, tuple(values)).pack(*values.values())


class Decoder:
    """Turns bytes of the ring buffer into records, and the runs of bytes in them into what they mean."""

    def __init__(self, btf: Btf) -> None:
        self._event = _layout(btf, "event", EVENT_FIELDS, prefix="II")
        self._process = _layout(btf, "process", ("pid", "comm"))
        self._packet = _layout(btf, "packet", PACKET_FIELDS)
        self.record_size = self._event.size
        self._length = self._event.size - 8

    def records(self, data: memoryview) -> list[Record]:
        """The complete records at the beginning of `data`; the first that is still being written ends them."""
        whole = len(data) // self.record_size * self.record_size
        records: list[Record] = list(self._event.iter_unpack(data[:whole]))
        length = self._length
        for index, record in enumerate(records):
            if record[0] != length:
                return records[:index]
        return records

    def process(self, run: bytes) -> Process:
        pid, comm = self._process.unpack(run)
        return Process(pid, _text(comm))

    def packet(self, run: bytes) -> Packet:
        (
            netns, mark, ifindex, mtu, length, protocol, sport, dport, version, l4, has_ports, ifname, saddr, daddr,
        ) = self._packet.unpack(run)  # fmt: skip
        addresses = None
        if version:
            import socket  # 3 ms, which the first packet can wait for better than the attaching

            family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
            source, destination = (socket.inet_ntop(family, a[:size]) for a in (saddr, daddr))
            addresses = Tuple(
                version, source, destination, sport if has_ports else None, dport if has_ports else None, l4
            )
        return Packet(netns, mark, ifindex, _text(ifname), mtu, length, protocol, addresses)


# From an event's addr, reason and location to what is printed of them.
Symbolize = Callable[[int, int, int], Function]
