"""The reader of BTF, on BTF written here, on what clang makes of a small file, and on damaged BTF."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import btf
from pwru.kernel.btf import Btf, BtfError, Function, Member, Tracepoint, Type, vmlinux_btf
from tests.unit.kernel.btf_writer import Writer

DATA = Path(__file__).parents[1] / "data"


class Sample(Writer):
    """The types that functions with packets are made of."""

    def __init__(self, base: Writer | None = None) -> None:
        super().__init__(base)
        if base is None:
            self.u32 = self.integer("unsigned int", 4)
            self.skb = self.struct("sk_buff", 8, ("len", self.u32, 0), ("mark", self.u32, 32))
            self.pskb = self.ref("PTR", self.skb)
            self.ppskb = self.ref("PTR", self.pskb)
            self.pvoid = self.ref("PTR", 0)
            self.reason = self.enum("skb_drop_reason", ("SKB_NOT_DROPPED_YET", 0), ("SKB_CONSUMED", 1))

    def functions(self) -> list[Function]:
        return Btf(self.data()).functions()


@pytest.fixture
def sample() -> Sample:
    return Sample()


def only(functions: list[Function]) -> tuple[int, bool, int, int, bool]:
    (function,) = functions
    return function[2:]


# --- functions ---


def test_function_with_an_skb(sample: Sample) -> None:
    btf_id = sample.func("ip_rcv", ("net", sample.pvoid), ("skb", sample.pskb), ("n", sample.u32))
    sample.func("other", ("n", sample.u32))
    assert sample.functions() == [Function("ip_rcv", btf_id, 2, False, 0, 3, False)]


def test_global_static_and_extern_functions_in_the_order_of_their_ids(sample: Sample) -> None:
    for name, linkage in (("c", 1), ("a", 0), ("b", 2), ("d", 1)):
        sample.func(name, sample.pskb, linkage=linkage)
    assert [function.name for function in sample.functions()] == ["c", "a", "b", "d"]


@pytest.mark.parametrize(
    "wrapping", ["CONST", "VOLATILE", "TYPEDEF", "TYPE_TAG", "CONST TYPEDEF VOLATILE CONST TYPEDEF"]
)
@pytest.mark.parametrize("double", [False, True])
def test_qualified_struct(sample: Sample, wrapping: str, double: bool) -> None:
    inner = sample.skb
    for kind in wrapping.split():
        inner = sample.ref(kind, inner, "name" if kind == "TYPEDEF" else "")
    pointer = sample.ref("PTR", inner)
    sample.func("f", sample.ref("PTR", pointer) if double else pointer)
    assert only(sample.functions()) == (1, double, 0, 1, False)


@pytest.mark.parametrize("wrapping", ["CONST", "RESTRICT", "TYPEDEF", "TYPE_TAG", "CONST RESTRICT TYPEDEF"])
@pytest.mark.parametrize("double", [False, True])
def test_qualified_pointer(sample: Sample, wrapping: str, double: bool) -> None:
    pointer = sample.pskb
    for kind in wrapping.split():
        pointer = sample.ref(kind, pointer, "name" if kind == "TYPEDEF" else "")
    if double:
        pointer = sample.ref("CONST", sample.ref("PTR", pointer))
    sample.func("f", sample.u32, pointer)
    assert only(sample.functions()) == (2, double, 0, 2, False)


def test_types_may_refer_to_later_ones() -> None:
    """A pointer before its struct, qualifiers in the wrong order: nothing says that ids have to be sorted."""
    w = Writer()
    w.add("FUNC", "f", 2)
    w.proto(3)
    w.ref("CONST", 4)
    w.ref("PTR", 5)
    w.ref("CONST", 6)
    w.ref("TYPEDEF", 7, "t")
    w.struct("sk_buff", 0)
    assert only(Btf(w.data()).functions()) == (1, False, 0, 1, False)


def test_forward_declaration_is_the_struct() -> None:
    w = Writer()
    w.func("f", w.ref("PTR", w.add("FWD", "sk_buff", 0)))
    assert only(Btf(w.data()).functions()) == (1, False, 0, 1, False)


def test_the_struct_twice(sample: Sample) -> None:
    sample.func("f", sample.ref("PTR", sample.struct("sk_buff", 8, ("other", sample.u32, 0))))
    sample.func("g", sample.pskb)
    assert [function.name for function in sample.functions()] == ["f", "g"]


def test_of_two_the_first_is_the_packet(sample: Sample) -> None:
    const = sample.ref("PTR", sample.ref("CONST", sample.skb))
    sample.func("skb_copy_header", ("to", sample.u32), ("new", sample.pskb), ("old", const))
    sample.func("coalesce", ("a", sample.ppskb), ("b", sample.pskb))
    sample.func("other", ("a", const), ("b", sample.ppskb))
    assert [function[2:4] for function in sample.functions()] == [(2, False), (1, True), (1, False)]


def test_what_is_no_packet(sample: Sample) -> None:
    sample.func("by_value", sample.skb)
    sample.func("triple", sample.ref("PTR", sample.ppskb))
    sample.func("other_struct", sample.ref("PTR", sample.struct("sk_buff_head", 8)))
    sample.func("union", sample.ref("PTR", sample.struct("sk_buff", 8, kind="UNION")))
    sample.func("function_pointer", sample.ref("PTR", sample.proto(sample.pskb)))
    sample.func("array", sample.array(sample.pskb, sample.u32, 2))
    sample.func("variadic", sample.u32, 0)
    sample.func("none")
    sample.add("VAR", "variable", sample.pskb, 1)
    assert sample.functions() == []


def test_far_argument_and_ellipsis(sample: Sample) -> None:
    sample.func("far", *[sample.u32] * 8, sample.pskb)
    sample.func("printf_like", sample.pskb, sample.pvoid, 0)
    assert [function[2:] for function in sample.functions()] == [(9, False, 0, 9, False), (1, False, 0, 2, True)]


def test_functions_without_a_trampoline(sample: Sample) -> None:
    """test_trampolines.py in tests/kernel asks a kernel whether it says the same."""
    pair = sample.ref("TYPEDEF", sample.struct("pair", 16, ("a", sample.u32, 0)), "pair_t")
    large = sample.ref("CONST", sample.struct("large", 24, ("a", sample.u32, 0)))
    number = sample.ref("TYPEDEF", sample.u32, "number_t")
    arguments = {
        None: [[], [sample.pskb], [sample.pskb, pair, number], [sample.pskb, *[sample.u32] * 11]],
        "it has more than 12 arguments": [[sample.pskb, *[sample.u32] * 12]],
        "it is variadic": [[sample.pskb, 0]],
        "it takes a large struct by value": [[sample.pskb, large]],
    }
    ids = {sample.func("f", *types): cause for cause, several in arguments.items() for types in several}
    for returned, cause in ((0, None), (number, None), (sample.pskb, None), (pair, "it returns a struct")):
        prototype = sample.add("FUNC_PROTO", "", returned, 0, sample.pskb, vlen=1)
        ids[sample.add("FUNC", "f", prototype)] = cause
    found = Btf(sample.data())
    assert {btf_id: found.no_trampoline(btf_id) for btf_id in ids} == ids


def test_drop_reason(sample: Sample) -> None:
    sample.func("kfree_skb_reason", sample.pskb, sample.reason)
    sample.func("sk_skb_reason_drop", sample.pvoid, sample.pskb, sample.reason)
    sample.func("reason_first", sample.reason, sample.pskb)
    sample.func("reason_only", sample.reason)
    sample.func("twice", sample.pskb, sample.reason, sample.reason)
    assert [(f.name, f.skb_arg, f.reason_arg) for f in sample.functions()] == [
        ("kfree_skb_reason", 1, 2), ("sk_skb_reason_drop", 2, 3), ("reason_first", 2, 1), ("twice", 1, 2),
    ]  # fmt: skip


def test_another_struct(sample: Sample) -> None:
    sample.func("xdp", sample.ref("PTR", sample.struct("xdp_buff", 8)))
    sample.func("ip_rcv", sample.pskb)
    assert [function.name for function in Btf(sample.data()).functions("xdp_buff")] == ["xdp"]


def test_every_kind_in_the_way(sample: Sample) -> None:
    """Records of all kinds, of all sizes, between those that are looked for."""
    int_, pvoid = sample.u32, sample.pvoid
    sample.func("first", sample.pskb)
    sample.array(int_, int_, 3)
    sample.struct("u", 8, ("a", int_, 0), ("b", pvoid, 0), kind="UNION")
    sample.enum("e", *((f"E{n}", n) for n in range(300)))
    sample.enum64("e64", ("A", 1 << 40), ("B", -1))
    sample.add("FWD", "fwd", 0, flag=True)
    sample.proto(*[int_] * 40)
    var = sample.add("VAR", "v", int_, 1)
    sample.add("DATASEC", ".data", 12, var, 0, 4, var, 4, 4, vlen=2)
    sample.add("FLOAT", "double", 8)
    sample.add("DECL_TAG", "tag", var, -1)
    sample.ref("TYPE_TAG", int_, "user")
    sample.bitfields("b", 4, ("x", int_, 0, 3), ("y", int_, 3, 29))
    sample.func("last", sample.pskb)
    found = Btf(sample.data())
    assert [function.name for function in found.functions()] == ["first", "last"]
    assert found.count == sample.next_id


# --- split BTF ---


def test_split_btf_continues_its_base(sample: Sample) -> None:
    sample.func("ip_rcv", sample.pskb)
    shared = sample.proto(sample.pskb, sample.u32)
    module = Sample(sample)
    with_base_type = module.func("veth_xmit", ("skb", sample.pskb))
    with_base_proto = module.add("FUNC", "veth_forward", shared)
    const = module.ref("CONST", sample.skb)
    own = module.func("veth_const", module.ref("PTR", const))
    module.func("veth_none", sample.u32)
    base = Btf(sample.data())
    split = Btf(module.data(), base)
    assert split.functions() == [
        Function("veth_xmit", with_base_type, 1, False, 0, 1, False),
        Function("veth_forward", with_base_proto, 1, False, 0, 2, False),
        Function("veth_const", own, 1, False, 0, 1, False),
    ]
    assert [function.name for function in base.functions()] == ["ip_rcv"]
    assert (split.find("ip_rcv", btf.FUNC), split.find("veth_xmit", btf.FUNC)) == (
        base.find("ip_rcv", btf.FUNC), with_base_type,
    )  # fmt: skip
    assert split.count == module.next_id


def test_the_first_string_of_split_btf(sample: Sample) -> None:
    """There is no zero before it."""
    module = Sample(sample)
    btf_id = module.func("veth_xmit", sample.pskb)
    assert Btf(module.data(), Btf(sample.data())).find("veth_xmit", btf.FUNC) == btf_id


def test_a_module_without_types_of_its_own(sample: Sample) -> None:
    """Commit bcc5e6162d66 ("bpf: Allow empty module BTFs"), in v5.11."""
    empty = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 0)
    assert Btf(empty, Btf(sample.data())).functions() == []


def test_split_btf_does_not_look_into_its_base_before_it_must(sample: Sample) -> None:
    """The base's types are found by a walk over all of them."""
    module = Sample(sample)
    module.func("veth_xmit", ("skb", sample.pskb))
    base = Btf(sample.data())
    split = Btf(module.data(), base)
    assert "_index" not in base.__dict__
    assert split.functions()
    assert "_index" in base.__dict__


def test_split_btf_has_its_own_struct(sample: Sample) -> None:
    module = Sample(sample)
    module.struct("veth_priv", 12, ("skb", sample.pskb, 0), ("n", sample.u32, 64))
    split = Btf(module.data(), Btf(sample.data()))
    found = split.struct("veth_priv")
    assert found is not None
    assert [(member.name, member.offset, member.size, member.kind) for member in found.members] == [
        ("skb", 0, 8, btf.PTR), ("n", 8, 4, btf.INT),
    ]  # fmt: skip
    assert split.struct("sk_buff") == Btf(sample.data()).struct("sk_buff")
    assert split.enum("skb_drop_reason") == {0: "SKB_NOT_DROPPED_YET", 1: "SKB_CONSUMED"}


def test_split_btf_without_its_base_is_an_error(sample: Sample) -> None:
    module = Sample(sample)
    module.func("veth_xmit", sample.pskb)
    with pytest.raises(BtfError):
        Btf(module.data())


# --- tracepoints ---


def add_tracepoint(sample: Sample, name: str, *arguments: int) -> None:
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pvoid, *arguments)), f"btf_trace_{name}")


def test_tracepoints(sample: Sample) -> None:
    const = sample.ref("PTR", sample.ref("CONST", sample.skb))
    add_tracepoint(sample, "netif_rx", sample.pskb)
    add_tracepoint(sample, "kfree_skb", sample.pskb, sample.pvoid, sample.reason, sample.pvoid)
    add_tracepoint(sample, "consume_skb", sample.pskb, sample.pvoid)
    add_tracepoint(sample, "tcp_retransmit_skb", sample.u32, const)
    add_tracepoint(sample, "sched_switch", sample.u32)
    add_tracepoint(sample, "reason_first", sample.reason, sample.pskb)
    sample.ref("TYPEDEF", sample.pskb, "btf_trace_not_a_function")
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pskb)), "btf_trace_data_is_the_skb")
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pvoid, sample.pskb)), "not_btf_trace_x")
    assert Btf(sample.data()).tracepoints() == [
        Tracepoint("consume_skb", 0, None, 1),
        Tracepoint("kfree_skb", 0, 2, 1),
        Tracepoint("netif_rx", 0, None, None),
        Tracepoint("reason_first", 1, 0, None),
        Tracepoint("tcp_retransmit_skb", 1, None, None),
    ]


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
    assert by_name["skb"] == Member("skb", 0, 8, 0, 0, btf.INT, by_name["skb"].type_id, False, 1, 8)
    assert (by_name["delta"].offset, by_name["delta"].signed) == (8, True)
    data = by_name["data"]
    assert (data.offset, data.size, data.kind, data.elements, data.element_size) == (16, 12, btf.ARRAY, 12, 1)
    assert (by_name["inner"].size, by_name["inner"].kind) == (16, btf.STRUCT)
    assert (by_name["flexible"].size, by_name["flexible"].element_size) == (0, 8)
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
    assert found.type(double)[1:4] == (btf.FLOAT, "double", 8)
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


# --- names ---


def test_find(sample: Sample) -> None:
    typedef = sample.ref("TYPEDEF", sample.u32, "sk_buff")
    found = Btf(sample.data())
    assert found.find("sk_buff", btf.STRUCT) == sample.skb
    assert found.find("sk_buff", btf.TYPEDEF) == typedef
    assert found.find("sk_buff", btf.TYPEDEF, btf.STRUCT) == sample.skb
    assert found.find("sk_buff", btf.FUNC) is None
    assert found.find("buff", btf.STRUCT) is None
    assert found.find("sk_buff_head", btf.STRUCT) is None


def test_the_same_string_twice(sample: Sample) -> None:
    """libbpf and pahole never write one twice, but nothing forbids it."""
    sample.strings += b"sk_buff\0"
    offset = len(sample.strings) - len("sk_buff") - 1
    sample.types += struct.pack("=3I", offset, 4 << 24, 0)
    second = sample.next_id
    sample.next_id += 1
    sample.func("f", sample.ref("PTR", second))
    assert [function.name for function in sample.functions()] == ["f"]


# --- files ---


def test_from_elf_made_by_clang() -> None:
    """data/sample.elf is data/sample.bpf.c, see data/make.sh."""
    found = Btf.from_file(DATA / "sample.elf")
    assert [(f.name, f.skb_arg, f.double_pointer, f.reason_arg, f.nargs) for f in found.functions()] == [
        ("plain", 1, False, 0, 1),
        ("constant", 2, False, 0, 2),
        ("twice", 1, True, 3, 3),
        ("by_typedef", 3, False, 0, 3),
    ]
    event = found.struct("event")
    assert event is not None
    assert (event.size, [(m.name, m.offset, m.size) for m in event.members]) == (
        40,
        [
            ("skb", 0, 8),
            ("addr", 8, 8),
            ("cpu", 16, 4),
            ("comm", 20, 16),
            ("low", 36, 2),
            ("high", 38, 2),
            ("all", 36, 4),
        ],
    )
    assert found.enum("skb_drop_reason") == {0: "SKB_NOT_DROPPED_YET", 2: "SKB_DROP_REASON_NOT_SPECIFIED"}


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content, message in (
        ("empty", b"", "too short"),
        ("text", b"hello, this is no BTF at all, is it?", "not BTF"),
        ("elf", b"\x7fELF" + bytes(60), "ELF"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BtfError, match=message) as error:
            vmlinux_btf(str(path))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(PwruError, match="No such file"):
        vmlinux_btf(str(tmp_path / "absent"))


def test_elf_without_btf(tmp_path: Path) -> None:
    path = tmp_path / "stripped.o"
    path.write_bytes((DATA / "sample.elf").read_bytes().replace(b".BTF\0", b".XTF\0"))
    with pytest.raises(BtfError, match=r"no \.BTF section"):
        Btf.from_file(path)


def test_a_kernel_without_btf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(btf, "VMLINUX", str(tmp_path / "vmlinux"))
    with pytest.raises(PwruError, match="--kernel-btf"):
        vmlinux_btf()


# --- damaged BTF ---


def query_everything(data: bytes) -> None:
    found = Btf(data)
    queries: list[Callable[[], object]] = [
        found.functions,
        found.tracepoints,
        lambda: found.enum("skb_drop_reason"),
        lambda: found.struct("sk_buff"),
        lambda: found.struct("outer"),
        lambda: found.find("ip_rcv", btf.FUNC),
        lambda: found.enumerator("SKB_CONSUMED"),
        found.enumerators,
        *(partial(found.type, type_id) for type_id in range(20)),
    ]
    for query in queries:
        try:
            query()
        except BtfError as error:
            assert "\n" not in str(error)  # noqa: PT017


def rich() -> bytes:
    sample = Sample()
    add_tracepoint(sample, "kfree_skb", sample.pskb, sample.pvoid, sample.reason)
    sample.func("ip_rcv", sample.pskb, ("reason", sample.reason), 0)
    sample.func("const", sample.ref("PTR", sample.ref("CONST", sample.skb)))
    anonymous = sample.struct("", 8, ("y", sample.array(sample.u32, sample.u32, 2), 0))
    sample.bitfields("outer", 16, ("x", sample.u32, 0, 4), ("", anonymous, 32, 0), ("p", sample.ppskb, 64, 0))
    return sample.data()


HEADER = struct.Struct("=HBBIIIII")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((0x9FEB, 1, 0, 24, 0, 12, 12, 1), "other byte order"),
        ((0x1234, 1, 0, 24, 0, 12, 12, 1), "not BTF"),
        ((0xEB9F, 2, 0, 24, 0, 12, 12, 1), "version 2"),
        ((0xEB9F, 1, 0, 8, 0, 12, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 13, 13, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 16, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 12, 12, 9), "damaged"),
        ((0xEB9F, 1, 0, 0xFFFFFFF0, 0, 12, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 12, 0, 0), "damaged"),
    ],
)
def test_bad_header(header: tuple[int, ...], message: str) -> None:
    with pytest.raises(BtfError, match=message):
        Btf(HEADER.pack(*header) + struct.pack("=3I", 0, 2 << 24, 0) + b"\0")


def test_unknown_kinds_and_a_cut_record() -> None:
    for kind in (0, 20, 31):
        w = Writer()
        w.types = struct.pack("=3I", 0, kind << 24, 0)
        with pytest.raises(BtfError, match=f"kind {kind}"):
            Btf(w.data()).functions()
    for words in (1, 2, 5):
        w = Writer()
        w.types = struct.pack("=6I", 0, 3 << 24, 0, 0, 0, 0)[: 4 * words]
        with pytest.raises(BtfError, match="cut off"):
            Btf(w.data()).functions()


def test_cycles() -> None:
    w = Writer()
    w.ref("TYPEDEF", 2, "btf_trace_x")
    w.ref("TYPEDEF", 1, "btf_trace_y")
    w.struct("outer", 8, ("a", 1, 0))
    w.struct("", 8, ("", 4, 0), ("", 4, 0))
    w.struct("endless", 8, ("", 4, 0))
    w.array(6, 6, 2)
    w.struct("arrays", 8, ("a", 6, 0))
    found = Btf(w.data())
    with pytest.raises(BtfError, match="no end"):
        found.tracepoints()
    with pytest.raises(BtfError, match="no end"):
        found.struct("outer")
    with pytest.raises(BtfError, match="contains itself"):
        found.struct("endless")
    with pytest.raises(BtfError, match="contains itself"):
        found.struct("arrays")


def test_references_to_nowhere() -> None:
    w = Writer()
    w.struct("outer", 8, ("a", 1000, 0))
    w.add("FUNC", "f", 1000)
    w.struct("sk_buff", 8)
    w.func("g", 0xFFFFFFFF, w.ref("PTR", 3))
    w.types += struct.pack("=3I", 5000, 12 << 24, w.next_id - 2)  # its name is beyond the strings
    found = Btf(w.data())
    with pytest.raises(BtfError, match="no type 1000"):
        found.struct("outer")
    with pytest.raises(BtfError, match="beyond"):
        found.functions()


def test_every_truncation() -> None:
    data = rich()
    for length in range(len(data)):
        with pytest.raises(BtfError):
            Btf(data[:length])


@pytest.mark.parametrize("seed", range(4))
def test_mutations(seed: int) -> None:
    """Whatever is wrong, it ends soon, with a result or with BtfError, and takes no memory to speak of."""
    chance = random.Random(seed)
    original = rich()
    tracemalloc.start()
    try:
        for _ in range(400):
            data = bytearray(original)
            for _ in range(chance.choice((1, 1, 2, 5, 20))):
                place = chance.randrange(24, len(data)) if chance.random() < 0.8 else chance.randrange(len(data))
                if chance.random() < 0.5:
                    data[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                else:
                    aligned = place & ~3
                    data[aligned : aligned + 4] = struct.pack(
                        "=I", chance.choice((0, 1, 5, 0xFFFF, chance.randrange(64)))
                    )
            try:
                query_everything(bytes(data))
            except BtfError as error:
                assert "\n" not in str(error)  # noqa: PT017
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
