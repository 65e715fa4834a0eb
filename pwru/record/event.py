"""The wire record ⇄ Python: what the BPF programs send, decoded in bulk.

The layout comes from the BTF of the BPF object (the structures in bpf/pwru.h), so the two cannot get out of step. A
record has the parts that the run asked for, and so all records of a run have one size. An event stays a tuple of
numbers and runs of bytes: those repeat, so formatters decode and format each distinct run once and keep the text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pwru.errors import PwruError, printable

if TYPE_CHECKING:
    from pwru.kernel.btf import Btf

# One event: the address of the skb, then the bytes of struct task, of struct where (with what stands behind it: the
# location), and of the parts that describe the packet. If the decoder's are `full`, also the time of the event, in ns
# since boot (b"" if it was not asked for), and the bytes of what hardly ever repeats: see Details.
Record = tuple[Any, ...]

_EVENT = ("skb", "task", "where")
_TASK = ("cpu", "pid", "comm")
_WHERE = ("addr", "reason", "padding")
_META = ("netns", "mark", "ifindex", "mtu", "len", "protocol", "padding", "ifname")
_TUPLE = ("saddr", "daddr", "sport", "dport", "ip_version", "l4_protocol", "has_ports", "tcp_flags")
_CB = ("words", "padding")
_STACK = ("caller", "size", "frames")
_PAYLOAD = ("length", "size", "has_mac", "padding", "bytes")

# Of the ring buffer: the length, with bits that say that the kernel still writes or gave up the record; a page offset.
_HEADER = struct.Struct("=II")
_INTEGER = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Task(NamedTuple):
    cpu: int
    pid: int
    comm: str


class Where(NamedTuple):
    """`addr` is a function's address or the number of a tracepoint, `location` 0 where the probe has none."""

    addr: int
    reason: int
    location: int


class Meta(NamedTuple):
    """`ifname` is empty and `ifindex` 0 where the packet has no device."""

    netns: int
    mark: int
    ifindex: int
    ifname: str
    mtu: int
    len: int
    protocol: int


class Tuple(NamedTuple):
    """Addresses as text; ports are None where the packet has none or not in this fragment.

    `flags` are the bits of a TCP header, 0 if they were not asked for.
    """

    ip_version: int
    saddr: str
    daddr: str
    sport: int | None
    dport: int | None
    protocol: int
    flags: int = 0


class Packet(NamedTuple):
    """A part that was not asked for is None; so is a tuple where there is no IP header, or no tunnel."""

    meta: Meta | None
    tuple: Tuple | None
    cb: list[int] | None = None
    tunnel: Tuple | None = None


class Payload(NamedTuple):
    """The first bytes of a packet, from the link-layer header on if it has one; `length` is how many there are."""

    length: int
    has_mac: bool
    data: bytes


class Details(NamedTuple):
    """What was not asked for is empty. `values` are of 64 bits; `frames` begin with those of the tracer."""

    values: tuple[int, ...] = ()
    caller: int = 0
    frames: tuple[int, ...] = ()
    skb: bytes = b""
    shared_info: bytes = b""
    payload: Payload | None = None


class Function(NamedTuple):
    """What a probe hit: its name as printed, its caller, or where a drop happened, if the run is to tell, and whether
    packets are dropped there."""

    name: str
    caller: str
    drops: bool = False


# From what a probe reports to what is printed of it.
Symbolize = Callable[[Where], Function]


class Parts(NamedTuple):
    """Which parts of a record a run asks for."""

    meta: bool = True
    tuple: bool = True
    location: bool = False
    time: bool = False
    cb: bool = False
    tcp_flags: bool = False  # of the tuples
    tunnel: bool = False
    values: int = 0
    stack: bool = False
    # Sizes in bytes.
    skb: int = 0
    shared_info: int = 0
    payload: int = 0


def _text(raw: bytes) -> str:
    """A C string of the kernel as text that is safe to print: control characters and broken UTF-8 are escaped."""
    return printable(raw.partition(b"\0")[0].decode(errors="backslashreplace"))


_MISMATCH = "the BPF object does not belong to this version of pwru; rebuild it: make build"


def _layout(btf: Btf, name: str, expected: tuple[str, ...]) -> struct.Struct:
    """A structure of the object's BTF as a struct.Struct; members that are not integers become runs of bytes."""
    found = btf.struct(name)
    if found is None or tuple(member.name for member in found.members) != expected:
        raise PwruError(_MISMATCH)
    parts, end = ["="], 0
    for member in found.members:
        parts.append(f"{member.offset - end}x" if member.offset > end else "")
        parts.append(_INTEGER[member.size] if member.is_int else f"{member.size}s")
        end = member.offset + member.size
    parts.append(f"{found.size - end}x" if found.size > end else "")
    return struct.Struct("".join(parts))


def pack(btf: Btf, name: str, values: Mapping[str, int | bytes]) -> bytes:
    """The bytes of a structure; `values` are its members in their order, arrays as bytes."""
    return _layout(btf, name, tuple(values)).pack(*values.values())


class Decoder:
    """Turns bytes of the ring buffer into records, and the runs of bytes in them into what they mean."""

    def __init__(self, btf: Btf, parts: Parts) -> None:
        event = _layout(btf, "event", _EVENT)
        self._task, self._where = _layout(btf, "task", _TASK), _layout(btf, "where", _WHERE)
        self._meta, self._tuple = _layout(btf, "meta", _META), _layout(btf, "tuple", _TUPLE)
        self._cb = _layout(btf, "cb", _CB)
        stack = _layout(btf, "stack", _STACK)
        self._stack = struct.Struct(f"=Qq{stack.size - 16}s")
        self._payload = _layout(btf, "payload", _PAYLOAD)
        self.parts = parts
        # struct config: the size of a record, and where in it each part is that was asked for.
        places = ("record_size", "meta_at", "cb_at", "tuple_at", "tunnel_at", "location_at", "time_at")
        details_at = ("values_at", "stack_at", "skb_at", "shared_info_at", "payload_at")
        self.layout = dict.fromkeys((*places, *details_at), 0)
        self.layout |= {"values": parts.values, "skb_size": parts.skb, "shared_info_size": parts.shared_info}
        self.layout["payload_size"] = parts.payload
        self.layout["record_size"] = event.size

        def add(wanted: bool, name: str, size: int) -> int:
            at = self.layout["record_size"]
            if not wanted:
                return 0
            size = (size + 7) // 8 * 8
            self.layout[name], self.layout["record_size"] = at, at + size
            return size

        # Behind struct event, which ends with struct where.
        where = self._where.size + add(parts.location, "location_at", 8)
        packet = add(parts.meta, "meta_at", self._meta.size)
        packet += add(parts.cb, "cb_at", self._cb.size)
        packet += add(parts.tuple, "tuple_at", self._tuple.size)
        packet += add(parts.tunnel, "tunnel_at", self._tuple.size)
        time = add(parts.time, "time_at", 8)
        self._details_at = self.layout["record_size"]
        details = (
            add(parts.values > 0, "values_at", 8 * parts.values)
            + add(parts.stack, "stack_at", stack.size)
            + add(parts.skb > 0, "skb_at", parts.skb)
            + add(parts.shared_info > 0, "shared_info_at", parts.shared_info)
            + add(parts.payload > 0, "payload_at", self._payload.size + parts.payload)
        )
        # Whether records have more than what repeats.
        self.has_details = bool(details)
        self.full = bool(time or details or parts.tunnel)
        rest = f"{'Q' if time else '0s'}{details}s" if self.full else ""
        self._event = struct.Struct(f"={_HEADER.size}xQ{self._task.size}s{where}s{packet}s{rest}")
        # In the ring buffer, where every record takes a multiple of 8 bytes.
        assert self.layout["record_size"] % 8 == 0
        self.record_size = self._event.size

    def records(self, data: memoryview) -> list[Record]:
        """The complete records at the beginning of `data`; the first that is still being written ends them."""
        length, size = self.layout["record_size"], self.record_size
        whole = len(data) // size
        lengths = data[: whole * size].cast("I")[:: size // 4].tolist()
        if lengths.count(length) != whole:
            whole = next(index for index, found in enumerate(lengths) if found != length)
        return list(self._event.iter_unpack(data[: whole * size]))

    def task(self, run: bytes) -> Task:
        cpu, pid, comm = self._task.unpack(run)
        return Task(cpu, pid, _text(comm))

    def where(self, run: bytes) -> Where:
        addr, reason, _ = self._where.unpack_from(run)
        location = struct.unpack_from("=Q", run, self._where.size)[0] if self.parts.location else 0
        return Where(addr, reason, location)

    def packet(self, run: bytes) -> Packet:
        meta = addresses = cb = tunnel = None
        at = 0
        if self.parts.meta:
            netns, mark, ifindex, mtu, length, protocol, _, ifname = self._meta.unpack_from(run)
            meta = Meta(netns, mark, ifindex, _text(ifname), mtu, length, protocol)
            at += self._meta.size
        if self.parts.cb:
            words, _ = self._cb.unpack_from(run, at)
            cb = list(struct.unpack("=5I", words))
            at += self._cb.size
        if self.parts.tuple:
            addresses = self._addresses(run[at : at + self._tuple.size])
            at += self._tuple.size
        if self.parts.tunnel:
            tunnel = self._addresses(run[at : at + self._tuple.size])
        return Packet(meta, addresses, cb, tunnel)

    def details(self, run: bytes) -> Details:
        parts, layout, start = self.parts, self.layout, self._details_at
        found = Details()
        if parts.values:
            found = found._replace(values=struct.unpack_from(f"={parts.values}Q", run, layout["values_at"] - start))
        if parts.stack:
            caller, size, frames = self._stack.unpack_from(run, layout["stack_at"] - start)
            found = found._replace(
                caller=caller, frames=struct.unpack_from(f"={min(max(size, 0), len(frames)) // 8}Q", frames)
            )
        if parts.skb:
            at = layout["skb_at"] - start
            found = found._replace(skb=run[at : at + parts.skb])
        if parts.shared_info:
            at = layout["shared_info_at"] - start
            found = found._replace(shared_info=run[at : at + parts.shared_info])
        if parts.payload:
            at = layout["payload_at"] - start
            length, size, has_mac, *_ = self._payload.unpack_from(run, at)
            at += self._payload.size
            found = found._replace(payload=Payload(length, bool(has_mac), run[at : at + min(size, parts.payload)]))
        return found

    def _addresses(self, run: bytes) -> Tuple | None:
        saddr, daddr, sport, dport, version, l4, has_ports, flags = self._tuple.unpack(run)
        if not version:
            return None
        import socket  # 3 ms, which the first packet can wait for better than the attaching

        family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
        source, destination = (socket.inet_ntop(family, a[:size]) for a in (saddr, daddr))
        if not has_ports:
            sport = dport = None
        return Tuple(version, source, destination, sport, dport, l4, flags)
