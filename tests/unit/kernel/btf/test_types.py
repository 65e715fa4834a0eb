"""Enums, structs and other types in BTF written here."""

from __future__ import annotations

from pwru.kernel import btf
from pwru.kernel.btf import Btf, Member, Type
from pwru.kernel.btf.records import FLOAT
from tests.unit.kernel.btf_writer import Writer
from tests.unit.kernel.samples import Sample

# --- enums ---


def test_enum(sample: Sample) -> None:
    sample.enum("signed", ("MINUS", -1), ("ZERO", 0), ("ALSO_ZERO", 0), ("MIN", -(1 << 31)), signed=True)
    sample.enum("unsigned", ("BIG", 0xFFFFFFFF), ("ZERO", 0))
    sample.enum64("wide", ("HUGE", (1 << 64) - 1), ("ONE", 1 << 32))
    sample.enum64("wide_signed", ("MINUS", -2), ("PLUS", 1 << 40), signed=True)
    sample.add("ENUM", "forward", 4)
    sample.enum("forward", ("DEFINED", 5))
    found = Btf(sample.data())
    assert found.enum("signed") == {-1: "MINUS", 0: "ZERO", -(1 << 31): "MIN"}
    assert found.enum("unsigned") == {0xFFFFFFFF: "BIG", 0: "ZERO"}
    assert found.enum("wide") == {(1 << 64) - 1: "HUGE", 1 << 32: "ONE"}
    assert found.enum("wide_signed") == {-2: "MINUS", 1 << 40: "PLUS"}
    assert found.enum("forward") == {5: "DEFINED"}
    assert found.enum("sk_buff") is None
    assert found.enum("absent") is None
    assert found.enumerator("ZERO") == {0}
    assert found.enumerator("MINUS") == {-1, -2}
    assert found.enumerator("HUGE") == {(1 << 64) - 1}
    assert found.enumerator("MIN") == {-(1 << 31)}
    assert found.enumerator("ABSENT") == set()
    assert found.enumerator("sk_buff") == set()  # a string, but none of an enum
    assert found.enumerators() >= {"MINUS", "ALSO_ZERO", "HUGE", "SKB_CONSUMED"}


def test_enumerators_of_a_module(sample: Sample) -> None:
    module = Sample(sample)
    module.enum("veth_state", ("VETH_UP", 5), ("SKB_CONSUMED", 9))
    found = Btf(module.data(), Btf(sample.data()))
    assert found.enumerator("VETH_UP") == {5}
    assert found.enumerator("SKB_CONSUMED") == {1, 9}
    assert found.enumerators() == {"VETH_UP", "SKB_CONSUMED", "SKB_NOT_DROPPED_YET"}


# --- structs ---


def test_struct_members(sample: Sample) -> None:
    u8, s64 = sample.integer("unsigned char", 1), sample.integer("long int", 8, signed=True)
    u64 = sample.ref("TYPEDEF", sample.integer("long unsigned int", 8), "__u64")
    inner = sample.struct("inner", 16, ("a", u64, 0), ("b", u64, 64))
    sample.struct(
        "event",
        92,
        ("skb", sample.ref("CONST", u64), 0),
        ("delta", s64, 64),
        ("data", sample.array(sample.array(u8, sample.u32, 4), sample.u32, 3), 128),
        ("inner", sample.ref("VOLATILE", inner), 256),
        ("reason", sample.reason, 384),
        ("pointer", sample.pskb, 448),
        ("flexible", sample.array(u64, sample.u32, 0), 512),
        ("number", sample.add("FLOAT", "double", 8), 576),
        ("declared", sample.add("FWD", "x", 0), 640),
    )
    found = Btf(sample.data()).struct("event")
    assert found is not None
    assert found.size == 92
    by_name = {member.name: member for member in found.members}
    assert " ".join(by_name) == "skb delta data inner reason pointer flexible number declared"
    assert by_name["skb"] == Member("skb", 0, 8, 0, 0, btf.INT, by_name["skb"].type_id, False, 1)
    assert (by_name["delta"].offset, by_name["delta"].signed) == (8, True)
    data = by_name["data"]
    assert (data.offset, data.size, data.kind, data.elements) == (16, 12, btf.ARRAY, 12)
    assert (by_name["inner"].size, by_name["inner"].kind) == (16, btf.STRUCT)
    assert (by_name["flexible"].size, by_name["flexible"].elements) == (0, 0)
    assert (by_name["pointer"].size, by_name["number"].size, by_name["declared"].size) == (8, 8, 0)
    assert [member.name for member in found.members if member.is_int] == ["skb", "delta", "reason", "pointer"]
    assert found.member("data") == data
    assert found.member("absent") is None


def test_anonymous_members_are_those_of_the_struct(sample: Sample) -> None:
    anonymous = sample.struct("", 8, ("y", sample.u32, 0), ("z", sample.u32, 32))
    union = sample.struct("", 8, ("x", sample.pskb, 0), ("", anonymous, 0), kind="UNION")
    sample.struct("outer", 20, ("a", sample.u32, 0), ("", union, 64), ("named", anonymous, 128))
    found = Btf(sample.data()).struct("outer")
    assert found is not None
    assert [(m.name, m.offset) for m in found.members] == [("a", 0), ("x", 8), ("y", 8), ("z", 12), ("named", 16)]


def test_bitfields(sample: Sample) -> None:
    u8 = sample.integer("unsigned char", 1)
    sample.bitfields("new", 8, ("a", u8, 0, 3), ("b", u8, 3, 5), ("c", sample.u32, 13, 7), ("plain", sample.u32, 32, 0))
    three = sample.integer("unsigned char", 1, bits=3, bit_offset=2)
    sample.struct("old", 4, ("a", three, 8), ("plain", u8, 16))
    found = Btf(sample.data())
    new, old = found.struct("new"), found.struct("old")
    assert new is not None
    assert old is not None
    assert [(m.name, m.offset, m.bit_offset, m.bit_size, m.is_int) for m in new.members] == [
        ("a", 0, 0, 3, False), ("b", 0, 3, 5, False), ("c", 1, 13, 7, False), ("plain", 4, 32, 0, True),
    ]  # fmt: skip
    assert [(m.name, m.offset, m.bit_offset, m.bit_size) for m in old.members] == [("a", 1, 10, 3), ("plain", 2, 16, 0)]


def test_types(sample: Sample) -> None:
    long = sample.ref("TYPEDEF", sample.ref("CONST", sample.integer("long int", 8, signed=True)), "ssize_t")
    rows = sample.array(sample.u32, sample.u32, 3)
    table = sample.array(sample.ref("VOLATILE", rows), sample.u32, 2)
    minus = sample.enum("minus", ("MINUS", -1), signed=True)
    declared = sample.add("FWD", "absent", 0)
    double = sample.add("FLOAT", "double", 8)
    found = Btf(sample.data())
    assert found.type(0) == Type(0, 0, "void", 0, False, 0, 0)
    assert found.type(long)[1:] == (btf.INT, "long int", 8, True, 0, 0)
    assert found.type(sample.pskb) == Type(sample.pskb, btf.PTR, "", 8, False, sample.skb, 0)
    assert found.type(table) == Type(table, btf.ARRAY, "", 24, False, found.type(table).target, 2)
    assert found.type(found.type(table).target) == Type(rows, btf.ARRAY, "", 12, False, sample.u32, 3)
    assert found.type(minus)[1:5] == (btf.ENUM, "minus", 4, True)
    assert found.type(sample.skb)[1:4] == (btf.STRUCT, "sk_buff", 8)
    assert found.type(declared)[1:4] == (btf.FWD, "absent", 0)
    assert found.type(double)[1:4] == (FLOAT, "double", 8)
    assert found.layout(sample.skb) == found.struct("sk_buff")


def test_a_declaration_is_the_type_that_is_defined(sample: Sample) -> None:
    struct_, union = sample.add("FWD", "both", 0), sample.add("FWD", "both", 0, flag=True)
    defined = sample.struct("both", 4, ("a", sample.u32, 0)), sample.struct("both", 8, kind="UNION")
    found = Btf(sample.data())
    assert (found.type(struct_).id, found.type(union).id) == defined


def test_pointers_of_a_32_bit_machine() -> None:
    w = Writer()
    w.integer("long unsigned int", 4)
    w.struct("s", 4, ("p", w.ref("PTR", 0), 0))
    found = Btf(w.data()).struct("s")
    assert found is not None
    assert found.members[0].size == 4
