"""Functions and tracepoints with a packet, in BTF written here."""

from __future__ import annotations

import pytest

from pwru.kernel.btf import Btf, Function, Tracepoint, functions, no_trampoline, tracepoints
from tests.unit.kernel.btf_writer import Writer
from tests.unit.kernel.samples import Sample, add_tracepoint


def only(functions: list[Function]) -> tuple[int, bool, int]:
    (function,) = functions
    return function[2:5]


# --- functions ---


def test_function_with_an_skb(sample: Sample) -> None:
    btf_id = sample.func("ip_rcv", ("net", sample.pvoid), ("skb", sample.pskb), ("n", sample.u32))
    sample.func("other", ("n", sample.u32))
    assert sample.functions() == [Function("ip_rcv", btf_id, 2, False, 0)]


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
    assert only(sample.functions()) == (1, double, 0)


@pytest.mark.parametrize("wrapping", ["CONST", "RESTRICT", "TYPEDEF", "TYPE_TAG", "CONST RESTRICT TYPEDEF"])
@pytest.mark.parametrize("double", [False, True])
def test_qualified_pointer(sample: Sample, wrapping: str, double: bool) -> None:
    pointer = sample.pskb
    for kind in wrapping.split():
        pointer = sample.ref(kind, pointer, "name" if kind == "TYPEDEF" else "")
    if double:
        pointer = sample.ref("CONST", sample.ref("PTR", pointer))
    sample.func("f", sample.u32, pointer)
    assert only(sample.functions()) == (2, double, 0)


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
    assert only(functions(Btf(w.data()), "sk_buff")) == (1, False, 0)


def test_forward_declaration_is_the_struct() -> None:
    w = Writer()
    w.func("f", w.ref("PTR", w.add("FWD", "sk_buff", 0)))
    assert only(functions(Btf(w.data()), "sk_buff")) == (1, False, 0)


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
    assert [function[2:5] for function in sample.functions()] == [(9, False, 0), (1, False, 0)]


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
    assert {btf_id: no_trampoline(found, btf_id) for btf_id in ids} == ids


def test_drop_reason(sample: Sample) -> None:
    sample.func("kfree_skb_reason", sample.pskb, sample.reason)
    sample.func("sk_skb_reason_drop", sample.pvoid, sample.pskb, sample.reason)
    sample.func("reason_first", sample.reason, sample.pskb)
    sample.func("reason_only", sample.reason)
    sample.func("twice", sample.pskb, sample.reason, sample.reason)
    assert [(f.name, f.skb_arg, f.reason_arg) for f in sample.functions()] == [
        ("kfree_skb_reason", 1, 2), ("sk_skb_reason_drop", 2, 3), ("reason_first", 2, 1), ("twice", 1, 2),
    ]  # fmt: skip


def test_socket(sample: Sample) -> None:
    sock = sample.struct("sock", 8, ("x", sample.u32, 0))
    psock, const = sample.ref("PTR", sock), sample.ref("PTR", sample.ref("CONST", sock))
    sample.func("tcp_v4_do_rcv", psock, sample.pskb)
    sample.func("ip_output", sample.pvoid, const, sample.pskb)
    sample.func("first_counts", sample.pskb, sample.u32, psock, psock)
    sample.func("double", sample.pskb, sample.ref("PTR", psock))
    sample.func("by_value", sample.pskb, sock)
    sample.func("no_skb", psock)
    assert [(f.name, f.skb_arg, f.sock_arg) for f in sample.functions()] == [
        ("tcp_v4_do_rcv", 2, 1), ("ip_output", 3, 2), ("first_counts", 1, 3), ("double", 1, 0), ("by_value", 1, 0),
    ]  # fmt: skip


def test_socket_of_a_module_s_function(sample: Sample) -> None:
    psock = sample.ref("PTR", sample.struct("sock", 8, ("x", sample.u32, 0)))
    shared = sample.proto(psock, sample.pskb)
    module = Sample(base=sample)
    module.add("FUNC", "of_base", shared)
    module.func("own", sample.pskb, psock)
    found = functions(Btf(module.data(), base=Btf(sample.data())), "sk_buff")
    assert [(f.name, f.sock_arg) for f in found] == [("of_base", 1), ("own", 2)]


def test_another_struct(sample: Sample) -> None:
    sample.func("xdp", sample.ref("PTR", sample.struct("xdp_buff", 8)))
    sample.func("ip_rcv", sample.pskb)
    assert [function.name for function in functions(Btf(sample.data()), "xdp_buff")] == ["xdp"]


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
    assert [function.name for function in functions(found, "sk_buff")] == ["first", "last"]
    assert found.count == sample.next_id


# --- tracepoints ---


def test_tracepoints(sample: Sample) -> None:
    const = sample.ref("PTR", sample.ref("CONST", sample.skb))
    psock = sample.ref("PTR", sample.struct("sock", 8, ("x", sample.u32, 0)))
    add_tracepoint(sample, "netif_rx", sample.pskb)
    add_tracepoint(sample, "kfree_skb", sample.pskb, sample.pvoid, sample.reason, psock)
    add_tracepoint(sample, "consume_skb", sample.pskb, sample.pvoid)
    add_tracepoint(sample, "tcp_retransmit_skb", psock, const)
    add_tracepoint(sample, "sched_switch", sample.u32)
    add_tracepoint(sample, "reason_first", sample.reason, sample.pskb)
    add_tracepoint(sample, "qdisc_drop", sample.u32, sample.pskb, sample.enum("qdisc_drop_reason", ("GENERIC", 1)))
    other, reset = sample.enum("pid_type", ("PIDTYPE_PID", 0)), sample.enum("sk_rst_reason", ("NO_SOCKET", 1))
    add_tracepoint(sample, "tcp_send_reset", sample.pskb, other, reset)
    sample.ref("TYPEDEF", sample.pskb, "btf_trace_not_a_function")
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pskb)), "btf_trace_data_is_the_skb")
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pvoid, sample.pskb)), "not_btf_trace_x")
    assert tracepoints(Btf(sample.data()), "sk_buff") == [
        Tracepoint("consume_skb", 0, None, 1),
        Tracepoint("kfree_skb", 0, 2, 1, 3, "skb_drop_reason"),
        Tracepoint("netif_rx", 0, None, None),
        Tracepoint("qdisc_drop", 1, 2, None, reason_enum="qdisc_drop_reason"),
        Tracepoint("reason_first", 1, 0, None, reason_enum="skb_drop_reason"),
        Tracepoint("tcp_retransmit_skb", 1, None, None, 0),
        Tracepoint("tcp_send_reset", 0, 2, None, reason_enum="sk_rst_reason"),
    ]
    assert [t.name for t in tracepoints(Btf(sample.data()), "sk_buff") if t.drops] == [
        "kfree_skb", "qdisc_drop", "reason_first",
    ]  # fmt: skip
