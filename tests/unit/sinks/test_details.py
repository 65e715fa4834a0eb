"""What is printed beyond the columns, of records that are made up: members of every kind, and bytes of any kind."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import pytest

from pwru.kernel.btf import Btf, BtfError
from pwru.kernel.shapes import shape_of
from pwru.record.dump import Dump
from pwru.record.parts import Field, Payload
from pwru.record.plan import Plan
from pwru.sinks.details import Details, hex_dump
from pwru.sinks.lines import Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.text import Text
from tests.support.records import cut, record, schema, wire
from tests.support.source import FakeNames, FakeSource
from tests.unit.kernel.btf_writer import Writer

GOLDEN = Path(__file__).with_name("golden")
CALLER = 0xFFFFFFFF81000042
STACK = (0xFFFFFFFFC0000001, 0xFFFFFFFF8F000005, CALLER, 0xFFFFFFFF81000100)
FIELDS = (
    Field("skb->mark", False),
    Field("skb->dev->mtu", False),
    Field("skb->skb_iif", True),
    Field("skb->cb[3]", True),
)
SKB_SIZE, SHARED_INFO_SIZE = 92, 20


@cache
def btf() -> Btf:
    """Return the BTF of a kernel whose skb is small, but has one member of every kind."""
    w = Writer()
    char, u8, u16, u32 = (
        w.integer(*of) for of in (("char", 1, True), ("__u8", 1), ("short unsigned int", 2), ("u32", 4))
    )
    s64 = w.integer("long long int", 8, True)
    be16 = w.ref("TYPEDEF", u16, "__be16")
    ktime = w.ref("TYPEDEF", s64, "ktime_t")
    device = w.struct("net_device", 8, ("mtu", u32, 0))
    pointer = w.ref("PTR", w.ref("CONST", device))
    kind = w.enum("pkt_type", ("PACKET_HOST", 0), ("PACKET_OTHERHOST", 3))
    atomic = w.struct("", 4, ("counter", w.integer("int", 4, True), 0))
    atomic_t = w.ref("TYPEDEF", atomic, "atomic_t")
    times = w.struct("", 8, ("tstamp", ktime, 0), ("skb_mstamp_ns", ktime, 0), kind="UNION")
    flags = w.bitfields("", 4, ("cloned", u8, 0, 1), ("nohdr", u8, 1, 2), ("zone", u16, 3, 9))
    frag = w.struct("frag", 8, ("page", u32, 0), ("len", u32, 32))
    w.struct(
        "sk_buff", SKB_SIZE, ("dev", pointer, 0), ("", times, 64), ("protocol", be16, 128), ("empty", u32, 160),
        ("kind", kind, 192), ("", flags, 224), ("name", w.array(char, u32, 16), 256), ("cb", w.array(u8, u32, 8), 384),
        ("ports", w.array(u16, u32, 4), 448), ("frags", w.array(frag, u32, 2), 512), ("users", atomic_t, 640),
        ("negative", w.integer("int", 4, True), 672), ("end", w.array(u8, u32, 0), 704),
    )  # fmt: skip
    w.struct("skb_shared_info", SHARED_INFO_SIZE, ("nr_frags", u8, 16), ("dataref", atomic_t, 32))
    return Btf(w.data())


SKB = struct.pack(
    "<QqHxxIII16s8s4H4IIi4x", 0xFFFF888012345678, -5, 0x0008, 0, 3, 0b1010_0000_1011, b"v\x1b0", bytes((0, 1, 255)),
    1, 0, 443, 0, 0, 0, 7, 1500, 1, -2,
)  # fmt: skip
SHARED_INFO = struct.pack("<xxBxI12x", 1, 1)
PACKET = bytes.fromhex("e2e9d560f079be0c131439080800450000540000400040110000") + b"hello\n\xff\x1b[2J"


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def payload(data: bytes, room: int, *, length: int, has_mac: bool = True) -> bytes:
    return padded(struct.pack("=IIII", length, len(data), has_mac, 0) + data.ljust(room, b"\xee"))


def stack(caller: int = CALLER, frames: Sequence[int] = STACK) -> bytes:
    """Return struct stack; the room after the frames has whatever was in the ring buffer before."""
    return struct.pack(f"=Qq{len(frames)}Q", caller, 8 * len(frames), *frames) + b"\xff" * 8 * (64 - len(frames))


def frames_from(caller: int, frames: Sequence[int]) -> list[str]:
    start = frames.index(caller) if caller in frames else 0
    return [f"f+0x{frame & 0xFFF:x}" for frame in frames[start:]]


VALUES = struct.pack("=QQqq", 0xFFFFFFFF, 1500, -1, -128)
EVERYTHING = schema("stack", fields=FIELDS, skb=SKB_SIZE, shared_info=SHARED_INFO_SIZE, payload=50)


def dump(part: str, raw: bytes) -> str:
    return Dump(*shape_of(btf(), {"skb": "sk_buff", "shared_info": "skb_shared_info"}[part]))(raw)


NAMES = FakeNames(stack=frames_from, dump=dump)


SKB_TEXT = """\
(struct sk_buff){
 .dev = (struct net_device *)0xffff888012345678,
 (union){
  .tstamp = (ktime_t)-5,
  .skb_mstamp_ns = (ktime_t)-5,
 },
 .protocol = (__be16)8,
 .kind = (enum pkt_type)PACKET_OTHERHOST,
 (struct){
  .cloned = (__u8)1,
  .nohdr = (__u8)1,
  .zone = (short unsigned int)321,
 },
 .name = (char[])[118,27,48,],
 .cb = (__u8[])[0,1,255,],
 .ports = (short unsigned int[])[1,0,443,],
 .frags = (struct frag[])[
  (struct frag){},
  (struct frag){
   .page = (u32)7,
   .len = (u32)1500,
  },
 ],
 .users = (atomic_t){
  .counter = (int)1,
 },
 .negative = (int)-2,
}"""
SHARED_INFO_TEXT = """\
(struct skb_shared_info){
 .nr_frags = (__u8)1,
 .dataref = (atomic_t){
  .counter = (int)1,
 },
}"""
PACKET_TEXT = """\
37 of 84 bytes, from the MAC header on:
	0x0000:  e2e9 d560 f079 be0c 1314 3908 0800 4500  ...`.y....9...E.
	0x0010:  0054 0000 4000 4011 0000 6865 6c6c 6f0a  .T..@.@...hello.
	0x0020:  ff1b 5b32 4a                             ..[2J"""


def test_all_at_once() -> None:
    """Values follow the columns; all else has lines of its own, from the function's caller outwards."""
    details = Details(EVERYTHING, NAMES)
    raw = VALUES + stack() + padded(SKB) + padded(SHARED_INFO) + payload(PACKET, 50, length=84)
    text = " mark=4294967295 mtu=1500 skb_iif=-1 cb[3]=-128"
    assert details.text(raw) == "\n".join((text, "f+0x42", "f+0x100", SKB_TEXT, SHARED_INFO_TEXT, PACKET_TEXT))
    assert details.members(raw) == {
        "stack": ["f+0x42", "f+0x100"],
        "sk_buff": SKB_TEXT,
        "skb_metadata": {"skb->mark": 4294967295, "skb->dev->mtu": 1500, "skb->skb_iif": -1, "skb->cb[3]": -128},
        "skb_shared_info": SHARED_INFO_TEXT,
        "payload": base64.b64encode(PACKET).decode(),
        "payload_len": 84,
        "payload_has_mac": True,
    }


def test_values_of_skbs_and_of_frames() -> None:
    """An event has those of one of them; what it has no values for says nothing, and null in JSON."""
    mark, queue = Field("skb->mark", False), Field("xdp->rxq->queue_index", True, "xdp")
    room = 8 * (wire().constant("MAX_VALUES") + 1)
    words = struct.pack("=5q", -1, 9, 9, 9, 0), struct.pack("=5q", -1, 9, 9, 9, 1)
    of = Plan(wire(), {"values": room}, fields=(mark, queue)).schema
    details = Details(of, NAMES)
    assert [details.text(raw) for raw in words] == [f" mark={(1 << 64) - 1}", " queue_index=-1"]
    assert [details.members(raw) for raw in words] == [
        {"skb_metadata": {"skb->mark": (1 << 64) - 1}, "xdp_metadata": None},
        {"skb_metadata": None, "xdp_metadata": {"xdp->rxq->queue_index": -1}},
    ]
    details = Details(Plan(wire(), {"values": room, "skb": SKB_SIZE}, fields=(queue,)).schema, NAMES)
    assert [details.text(raw + padded(SKB)).partition("\n")[0] for raw in words] == ["", " queue_index=-1"]
    assert details.members(words[0] + padded(SKB))["skb_metadata"] == dump("skb", padded(SKB))


def test_no_stack() -> None:
    """bpf_get_stack() failed: -EFAULT."""
    assert schema("stack").details(struct.pack("=Qq512x", 0, -14))["stack"].frames == ()


def test_sizes_that_cannot_be() -> None:
    raw = struct.pack("=Qq512xIIII16s", 0, 1 << 40, 9, 1 << 31, 1, 0, bytes(16))
    details = schema("stack", payload=16).details(raw)
    assert len(details["stack"].frames) == 64
    assert details["payload"] == Payload(9, True, bytes(16))


def test_a_struct_that_contains_itself() -> None:
    w = Writer()
    w.struct("sk_buff", 8, ("again", 1, 0))
    with pytest.raises(BtfError, match="contains itself"):
        shape_of(Btf(w.data()), "sk_buff")


def test_a_packet_without_bytes() -> None:
    assert hex_dump(Payload(0, False, b"")) == "0 of 0 bytes, from the network header on:"


def test_nothing_but_zeros() -> None:
    assert Dump(*shape_of(btf(), "sk_buff"))(bytes(SKB_SIZE)) == "(struct sk_buff){}"


@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_bytes_are(seed: int) -> None:
    """Nothing ends because of them, and nothing that a terminal would obey is printed."""
    rng = Random(seed)
    details = Details(EVERYTHING, NAMES)
    size = EVERYTHING.size - schema().size
    raw = rng.choice((rng.randbytes(size), b"\xff" * size, bytes(size)))
    text = details.text(raw)
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert json.loads(json.dumps(details.members(raw)))


class GivesUp(Stream):
    """Takes so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.taken = b""

    def put(self, data: bytes) -> int:
        taken = data[: self.room - len(self.taken)]
        self.taken += taken
        return len(data) - len(taken)


def test_events_with_lines_of_their_own_that_are_given_up() -> None:
    """They are counted, not their lines; one that was printed in part is not printed."""
    of = schema("stack")

    def printed(room: int) -> tuple[int, str]:
        stream = GivesUp(room)
        lines = Lines(Text, stream, LineStyle())
        lines.begin(FakeSource(of, NAMES))
        lines.write(cut(of, *[record(rest=stack())] * 8))
        return lines.events, stream.taken.decode()

    count, text = printed(1 << 20)
    end, last = len(text), text.rindex("\n0x") + 1
    assert (count, text.count("\n")) == (8, 1 + 8 * 3)
    for room, events in ((end, 8), (end - 1, 7), (last + 5, 7), (last, 7), (last - 1, 6)):
        assert printed(room)[0] == events
