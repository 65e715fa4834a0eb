"""The records of a run: the layout of the built object, cut up and decoded."""

from __future__ import annotations

from typing import Any

import pytest

from pwru.errors import PwruError
from pwru.kernel.btf import Btf
from pwru.record.event import Task
from pwru.record.layout import Wire
from pwru.record.names import Function, Hit
from pwru.record.parts import PARTS, FlowTuple, Follow, Meta, Payload, Section, Stack
from pwru.record.plan import Plan
from pwru.record.schema import Schema
from tests.support.records import NO_IP, addresses, cb, cut, follow, hit, meta, record, schema, task, u64, wire
from tests.support.source import FakeNames
from tests.unit.kernel.btf_writer import Writer


def config(of: Schema, **values: Any) -> Any:
    """Return what the programs are told of the records, and besides."""
    sizes = {slot.part: slot.size for slot in of.slots}
    return wire().layout("config").unpack(Plan(wire(), sizes, tcp_flags=of.tcp_flags).config(**values))


def test_a_record() -> None:
    data = record(skb=0xFFFF888000001234)
    assert cut(schema(), data) == [(0xFFFF888000001234, task(), hit(), meta() + addresses(), b"", b"", b"")]
    assert schema().size == len(data)


@pytest.mark.parametrize("has_location", [False, True])
@pytest.mark.parametrize("has_meta", [False, True])
@pytest.mark.parametrize("has_tuple", [False, True])
def test_a_record_has_the_parts_that_were_asked_for(has_meta: bool, has_tuple: bool, has_location: bool) -> None:
    of = schema(*["location"] * has_location, parts=(*["meta"] * has_meta, *["tuple"] * has_tuple))
    site = hit(1, 2, 3 if has_location else None)
    packet = meta(mark=7) * has_meta + addresses("10.9.0.7") * has_tuple
    data = record(hit=site, packet=packet)
    assert of.size == len(data)
    assert cut(of, data) == [(0xFFFF8F3C8192F000, task(), site, packet, b"", b"", b"")]
    assert of.hit(site) == Hit(1, 2, 3 * has_location)
    values = of.packet(packet)
    assert (values["meta"].mark if has_meta else None) == (7 if has_meta else None)
    assert (values["tuple"].saddr if has_tuple else None) == ("10.9.0.7" if has_tuple else None)
    assert values.keys() == of.parts - {"location"}
    assert config(of).record_size == len(data)
    at, end = dict(zip(PARTS, config(of).at, strict=True)), len(data)
    for has, name, size in ((has_tuple, "tuple", 40), (has_meta, "meta", 40), (has_location, "location", 8)):
        end -= size * has
        assert at[name] == end * has


@pytest.mark.parametrize("has_tuple", [False, True])
def test_a_record_with_its_time(has_tuple: bool) -> None:
    of = schema("time", parts=("tuple",) * has_tuple)
    packet = addresses() * has_tuple
    data = record(packet=packet, rest=u64(1234567890123))
    assert dict(zip(PARTS, config(of).at, strict=True))["time"] == len(data) - 8
    assert cut(of, data * 2) == [(0xFFFF8F3C8192F000, task(), hit(), packet, b"", 1234567890123, b"")] * 2


def test_control_block_and_tunnel() -> None:
    of = schema("cb", "tunnel", tcp_flags=True)
    inner = addresses("fd00::1", "fd00::2", ports=(1, 2), l4=6, flags=0x12)
    packet = meta(mark=7) + cb(1, 2, 3, 4, 0xFFFFFFFF) + addresses("10.9.0.7") + inner
    ((*_, raw, follow, time, rest),) = cut(of, record(packet=packet))
    assert (raw, follow, time, rest) == (packet, b"", b"", b"")
    values = of.packet(packet)
    assert values["cb"] == [1, 2, 3, 4, 0xFFFFFFFF]
    assert values["tuple"]
    assert values["tuple"].saddr == "10.9.0.7"
    assert values["tunnel"] == FlowTuple(6, "fd00::1", "fd00::2", 1, 2, 6, 0x12)
    assert of.packet(packet[: -len(inner)] + NO_IP)["tunnel"] is None
    assert config(of).tcp_flags == 1


def test_task() -> None:
    assert schema().task(task(7, b"nginx: worker", cpu=3)) == Task(3, 7, "nginx: worker")


@pytest.mark.parametrize(
    ("comm", "printed"),
    [
        (b"evil\x1b[2J", "evil\\x1b[2J"),
        (b"new\nline", "new\\x0aline"),
        (b"caf\xc3\xa9", "café"),
        (b"broken\xff", "broken\\xff"),
        (b"fifteen-chars-x", "fifteen-chars-x"),
        (b"sixteen-chars-xy", "sixteen-chars-xy"),
        (b"", ""),
    ],
)
def test_names_are_safe_to_print(comm: bytes, printed: str) -> None:
    assert schema().task(task(1, comm)).comm == printed


def test_packet_ipv4() -> None:
    assert schema().packet(meta(mark=0xAB) + addresses(ports=(1234, 80), l4=6)) == {
        "meta": Meta(4026531840, 0xAB, 2, "v0", 1500, 84, 0x0800),
        "tuple": FlowTuple(4, "10.9.0.1", "10.9.0.2", 1234, 80, 6),
    }


def test_packet_ipv6() -> None:
    raw = meta(protocol=0x86DD) + addresses("fd00::1", "::", ports=(0, 65535), l4=17)
    assert schema().packet(raw)["tuple"] == FlowTuple(6, "fd00::1", "::", 0, 65535, 17)


def test_packet_without_ip() -> None:
    assert schema().packet(meta(protocol=0x0806) + NO_IP)["tuple"] is None


def test_config_has_the_layout_and_what_else_it_is_given() -> None:
    of = schema("stack", "time", payload=50)
    packed = config(of, netns=7, comm=b"ping", reasons=[3] * 8, trace_run=1 << 40)
    assert (packed.netns, packed.comm, packed.reasons, packed.trace_run) == (
        7,
        b"ping".ljust(16, b"\0"),
        (3,) * 8,
        1 << 40,
    )
    assert (packed.ifindex, packed.filters, packed.tcp_flags) == (0, 0, 0)
    assert dict(zip(PARTS, packed.size, strict=True))["payload"] == 50
    with pytest.raises(PwruError, match="does not belong to this version"):
        config(of, no_such_member=1)


def test_parts_are_in_the_order_of_the_object() -> None:
    """Whatever the order in which they are asked for; each begins where the one before it ends, in multiples of 8."""
    sizes = {"values": 16, "skb": 92, "shared_info": 20, "payload": 50}
    of = Plan(wire(), dict.fromkeys(reversed(PARTS), 0) | sizes).schema
    at = config(of).at
    assert list(at) == sorted(at)
    assert all(start % 8 == 0 for start in at)
    room = {
        "location": 8,
        "meta": 40,
        "cb": 24,
        "tuple": 40,
        "tunnel": 40,
        "follow": 40,
        "time": 8,
        "values": 16,
        "stack": 528,
    }
    room |= {"skb": 96, "shared_info": 24, "payload": 16 + 56, "bpfmap": 32 + 64 + 128}
    assert room.keys() == PARTS.keys()
    starts = dict(zip(PARTS, (*at, of.size), strict=False))
    assert starts == {name: wire().layout("event").size + sum(list(room.values())[:n]) for n, name in enumerate(PARTS)}
    assert of.size == wire().layout("event").size + sum(room.values())
    assert of.parts == PARTS.keys()


def test_parts_that_repeat_are_neighbours() -> None:
    """The parts of one section are one run of bytes, which is formatted once."""
    sections = [part.section for part in PARTS.values()]
    assert sections == sorted(sections, key=list(Section).index)


def object_with(*parts: str) -> Wire:
    """Return the wire of an object with another enum part."""
    w = Writer()
    w.enum("part", *((name, number) for number, name in enumerate(parts)))
    return Wire(Btf(w.data()))


NAMES = [f"PART_{name.upper()}" for name in PARTS]


@pytest.mark.parametrize(
    "parts",
    [
        [*NAMES, "PART_NEW", "NR_PARTS"],
        [*NAMES[1:], "NR_PARTS"],
        [*NAMES[:-1], "PART_NEW", "NR_PARTS"],
        NAMES,
    ],
)
def test_an_object_with_other_parts_is_refused(parts: list[str]) -> None:
    with pytest.raises(PwruError, match="does not belong to this version"):
        Plan(object_with(*parts), {})


def test_which_packet_it_is() -> None:
    """Numbers as they are; constants by their names, as the object has them; a part of the record of its own."""
    of = schema("follow", "time")
    told = follow(7, 8, parent=(5, 6), transmission=2, segment=3, tracked_by="RELATION", relation="CLONE", ended=True)
    (one,) = cut(of, record(rest=told + u64(1)))
    assert (one.packet, one.follow, one.time) == (meta() + addresses(), told, 1)
    assert of.follow(told) == Follow(7, 8, 5, 6, 2, 3, "relation", "clone", True)
    assert of.follow(follow(1 << 63)) == Follow(1 << 63, 1 << 63, 0, 0, 0, 0, "skb", None, False)
    assert of.event(one, FakeNames()).follow == of.follow(told)
    bare = schema()
    assert bare.event(cut(bare, record())[0], FakeNames()).follow is None


def test_constants_without_a_name_are_numbers() -> None:
    told = schema("follow").follow(b"\xff" * len(follow()))
    assert (told.tracked_by, told.relation, told.ended) == ("255", "255", True)


def test_event() -> None:
    """One record as an object, for whoever does not print lines."""
    of = schema("location", "time", "stack", payload=16)
    stack = wire().layout("stack").pack({"caller": 5, "size": 16, "frames": (9, 5, *[0xFF] * 62)})
    payload = wire().layout("payload").pack({"length": 84, "size": 3, "has_mac": 1}) + b"abc".ljust(16, b"\xee")
    (one,) = cut(of, record(hit=hit(1, 2, 3), rest=u64(1234) + stack + payload))
    fake = FakeNames(lambda hit: Function(f"f{hit.addr}", f"caller{hit.location}"))
    event = of.event(one, fake)
    assert (event.skb, event.task) == (0xFFFF8F3C8192F000, Task(1, 214, "ping"))
    assert (event.hit, event.function) == (Hit(1, 2, 3), Function("f1", "caller3"))
    assert event.time == 1234
    assert event.meta == Meta(4026531840, 0, 2, "v0", 1500, 84, 0x0800)
    assert event.tuple == FlowTuple(4, "10.9.0.1", "10.9.0.2", None, None, 1)
    assert event.stack == Stack(5, (9, 5))
    assert event.payload == Payload(84, True, b"abc")
    assert event.tunnel is None
    bare = schema(parts=()).event(cut(schema(parts=()), record(packet=b""))[0], fake)
    assert (bare.time, bare.meta, bare.tuple, bare.stack, bare.payload, bare.parts) == (
        None,
        None,
        None,
        None,
        None,
        {},
    )
