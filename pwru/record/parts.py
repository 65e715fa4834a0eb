"""The table of parts: what a record may have beyond the skb's address, the task and the site, and how each is decoded.

A part is a value of enum part in bpf/pwru.h (PART_CB is "cb"), and one row here. A row with a `column` needs nothing
else to be printed as text, and one with a `key` nothing else for JSON.
"""

import struct
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from pwru.errors import printable
from pwru.record.layout import Layout

_ADDRESSES = 12  # bytes of an Ethernet header before its EtherType


class Meta(NamedTuple):
    """What the skb and its device say.

    `netns`: inode number of the network namespace, 0 if unknown. `ifname` is empty and `ifindex` 0 for an skb without a
    device. `mtu` (of the device) and `len` are bytes. `protocol` is an EtherType.
    """

    netns: int
    mark: int
    ifindex: int
    ifname: str
    mtu: int
    len: int
    protocol: int


class FlowTuple(NamedTuple):
    """Addresses and ports. Ports are None for a packet without them, or for a fragment that does not have them.

    `ip_version` is 4 or 6, `protocol` a number of IANA's. `flags` are those of a TCP header, 0 unless requested.
    `from_sock`: the packet has no headers yet, and its socket says this.
    """

    ip_version: int
    saddr: str
    daddr: str
    sport: int | None
    dport: int | None
    protocol: int
    flags: int = 0
    from_sock: bool = False


class Stack(NamedTuple):
    """Addresses of kernel code. `caller` is the caller of the traced function, 0 if unknown; `frames` are return
    addresses from the innermost on and begin with those of the tracer."""

    caller: int
    frames: tuple[int, ...]


class Payload(NamedTuple):
    """The first bytes of a packet, from the link-layer header on if it has one; `length` is that of all of them.

    `vlan`: the 4 bytes of a VLAN tag that the kernel keeps apart from them, or b"".
    """

    length: int
    has_mac: bool
    data: bytes
    vlan: bytes = b""

    def on_wire(self) -> "Payload":
        """Return the packet with its VLAN tag, if any, where the wire has it."""
        if not (self.vlan and self.has_mac):
            return self
        tagged = self.data[:_ADDRESSES] + self.vlan + self.data[_ADDRESSES:]
        return Payload(self.length + len(self.vlan), True, tagged)


class BpfMap(NamedTuple):
    """The operation of a map that a BPF program calls for. `name` is cut at 15 bytes.

    `key` and `value` are the first bytes of `key_size` and `value_size`; None: the operation has none that is known.
    `found`: whether there was a value, of an operation that looks for one.
    """

    id: int
    name: str
    key_size: int
    value_size: int
    key: bytes | None
    value: bytes | None
    found: bool


class Follow(NamedTuple):
    """Which packet an event belongs to, by numbers of the kernel that are unique in a trace.

    `packet` is 0 for a packet that is not followed: there was no room. `instance` is which skb of the packet; that of
    the first one is `packet`. `relation` (clone, copy …), if this event tells one, is how this skb came from the skb
    `parent` of `parent_packet`, or, for merged, went into it. `transmission` counts those of TCP from 1; `segment`
    segments and IP fragments of a packet; they are 0 if there was none. `tracked_by`: why the event is traced (filter,
    skb, relation, xdp, stackid). With stackid the function runs below one that has the packet, and `instance` is 0 if
    it has an skb of its own. `ended`: the skb ends here.
    """

    packet: int
    instance: int
    parent_packet: int
    parent: int
    transmission: int
    segment: int
    tracked_by: str
    relation: str | None
    ended: bool


class Field(NamedTuple):
    """A value that a run asked for, extended to 64 bits: its C expression, its type, and whose it is (skb, xdp)."""

    name: str
    signed: bool
    of: str = "skb"
    bits: int = 64


class Section(Enum):
    """A run of neighbouring parts that is decoded as a whole. All but TIME and DETAILS repeat from event to event."""

    HIT = auto()
    PACKET = auto()
    FOLLOW = auto()
    TIME = auto()
    DETAILS = auto()


class Column(NamedTuple):
    """How text prints a part of the section PACKET: a value never takes more than `width` characters."""

    title: str
    width: int
    text: Callable[[Any], str]


class Part(NamedTuple):
    """One row. `struct` is its struct in bpf/pwru.h; `size` bytes follow it or, if that is 0, what the request says.

    `decoder` gets the layout of the struct, or the size, and then the names of the constants of each of `enums` by
    value; it returns what decodes the bytes of the part.
    """

    name: str
    section: Section
    decoder: Callable[..., Callable[[bytes], Any]]
    struct: str = ""
    enums: tuple[str, ...] = ()
    size: int = 0
    key: str = ""
    column: Column | None = None


def _u64(_size: int) -> Callable[[bytes], int]:
    return lambda raw: int.from_bytes(raw, "little")


def _u64s(size: int) -> Callable[[bytes], tuple[int, ...]]:
    return struct.Struct(f"<{size // 8}Q").unpack


def _copy(_size: int) -> Callable[[bytes], bytes]:
    return bytes


def text_of(raw: bytes) -> str:
    """Return a C string of the kernel as text that is safe to print: control characters, broken UTF-8 are escaped."""
    return printable(raw.partition(b"\0")[0].decode(errors="backslashreplace"))


def _meta(layout: Layout) -> Callable[[bytes], Meta]:
    members = layout.getter(*Meta._fields)

    def decode(raw: bytes) -> Meta:
        netns, mark, ifindex, ifname, mtu, length, protocol = members(raw)
        return Meta(netns, mark, ifindex, text_of(ifname), mtu, length, protocol)

    return decode


def _tuple(layout: Layout) -> Callable[[bytes], FlowTuple | None]:
    members = layout.getter(
        "ip_version", "saddr", "daddr", "sport", "dport", "has_ports", "l4_protocol", "tcp_flags"
    )  # fmt: skip

    def decode(raw: bytes) -> FlowTuple | None:
        """None for a packet without an IP header, unless its socket knows more."""
        version, saddr, daddr, sport, dport, has_ports, l4_protocol, flags = members(raw)
        if not version:
            return None
        import socket  # 3 ms, which the first packet can afford better than the start

        family, size = (socket.AF_INET, 4) if abs(version) == 4 else (socket.AF_INET6, 16)
        source, destination = socket.inet_ntop(family, saddr[:size]), socket.inet_ntop(family, daddr[:size])
        if not has_ports:
            sport = dport = None
        return FlowTuple(abs(version), source, destination, sport, dport, l4_protocol, flags, version < 0)

    return decode


def _cb(layout: Layout) -> Callable[[bytes], list[int]]:
    size = layout.size_of("words")
    members = layout.getter("words", "padding")
    return lambda raw: list(struct.unpack(f"<{size // 4}I", members(raw)[0]))


def _follow(layout: Layout, tracked_by: Mapping[int, str], relations: Mapping[int, str]) -> Callable[[bytes], Follow]:
    members = layout.getter(*Follow._fields)

    def decode(raw: bytes) -> Follow:
        packet, instance, parent_packet, parent, transmission, segment, cause, relation, ended = members(raw)
        # A constant without a name is of bytes that no program of ours wrote.
        why = tracked_by.get(cause) or str(cause)
        told = (relations.get(relation) or str(relation)) if relation else None
        return Follow(packet, instance, parent_packet, parent, transmission, segment, why, told, ended != 0)

    return decode


def _bpfmap(layout: Layout, value_is: Mapping[int, str]) -> Callable[[bytes], BpfMap | None]:
    members = layout.getter("id", "name", "key_size", "value_size", "has_key", "value_is", "key", "value")

    def decode(raw: bytes) -> BpfMap | None:
        """None for an event that is no operation of a map."""
        number, name, key_size, value_size, has_key, value, key_bytes, value_bytes = members(raw)
        if not number:
            return None
        known = value_is.get(value)
        return BpfMap(
            number,
            text_of(name),
            key_size,
            value_size,
            key_bytes[:key_size] if has_key else None,
            value_bytes[:value_size] if known == "known" else None,
            known != "missing",
        )

    return decode


def _stack(layout: Layout) -> Callable[[bytes], Stack]:
    members = layout.getter("caller", "size", "frames")

    def decode(raw: bytes) -> Stack:
        caller, size, frames = members(raw)
        used = min(max(size, 0), len(frames)) // 8
        return Stack(caller, struct.unpack_from(f"<{used}Q", frames))

    return decode


def _payload(layout: Layout) -> Callable[[bytes], Payload]:
    members = layout.getter("length", "size", "has_mac", later=("vlan_proto", "vlan_tci"))

    def decode(raw: bytes) -> Payload:
        length, size, has_mac, vlan_proto, vlan_tci = members(raw)
        vlan = struct.pack("!HH", vlan_proto, vlan_tci) if vlan_proto else b""
        return Payload(length, bool(has_mac), raw[layout.size : layout.size + size], vlan)

    return decode


def _cb_text(words: list[int]) -> str:
    return f"[{','.join(f'0x{word:08X}' for word in words)}]"


COPIES = {"skb": "sk_buff", "shared_info": "skb_shared_info"}  # of structs of the kernel, as a whole
PARTS = {
    part.name: part
    for part in (
        Part("location", Section.HIT, _u64, size=8),
        Part("meta", Section.PACKET, _meta, "meta"),
        Part("cb", Section.PACKET, _cb, "cb", key="cb", column=Column("__sk_buff->cb[]", 56, _cb_text)),
        Part("tuple", Section.PACKET, _tuple, "tuple"),
        Part("tunnel", Section.PACKET, _tuple, "tuple"),
        Part("follow", Section.FOLLOW, _follow, "follow", ("tracked_by", "relation")),
        Part("time", Section.TIME, _u64, size=8),
        Part("values", Section.DETAILS, _u64s),
        Part("stack", Section.DETAILS, _stack, "stack"),
        Part("skb", Section.DETAILS, _copy),
        Part("shared_info", Section.DETAILS, _copy),
        Part("payload", Section.DETAILS, _payload, "payload"),
        Part("bpfmap", Section.DETAILS, _bpfmap, "bpfmap", ("map_value",)),
    )
}
