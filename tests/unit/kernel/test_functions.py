"""What can be probed: BTF, kallsyms and ftrace put together, and `functions`."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from pwru.kernel.btf import Function
from pwru.kernel.functions import (
    Target,
    Targets,
    drop_blacklisted,
    drop_notrace,
    find_targets,
    nothing_left,
    select,
    union,
)
from pwru.kernel.kallsyms import Kallsyms
from tests.unit.kernel.samples import KALLSYMS


@pytest.fixture
def symbols() -> Kallsyms:
    return Kallsyms.read(str(KALLSYMS))


def function(name: str, skb_arg: int = 1, *, double: bool = False, reason: int = 0, btf_id: int = 7) -> Function:
    return Function(name, btf_id, skb_arg, double, reason)


IP_RCV = Target("ip_rcv", 0xFFFFFFFF9FE3E110, 1, 0, False, 7, None, False)


def test_targets(symbols: Kallsyms) -> None:
    functions = [
        function("ip_rcv"),
        function("kfree_skb_reason", 1, reason=2, btf_id=9),
        function("ip_rcv_core", 2, double=True),
    ]
    assert find_targets(functions, symbols) == Targets(
        [
            Target("kfree_skb_reason", 0xFFFFFFFF9FD8AB30, 1, 2, False, 9, None, False),
            Target("ip_rcv_core", 0xFFFFFFFF9FE3D5B0, 2, 0, True, 7, None, False),
            IP_RCV,
        ],
        {},
    )


def test_each_address_of_one_name(symbols: Kallsyms) -> None:
    found = find_targets([function("add_grec"), function("add_grec", btf_id=8)], symbols).found
    assert [(target.address, target.ambiguous) for target in found] == [
        (0xFFFFFFFF9FE941E0, True), (0xFFFFFFFF9FF1B6C0, True),
    ]  # fmt: skip


def test_what_is_skipped_and_why(symbols: Kallsyms) -> None:
    functions = [
        function("ip_rcv"), function("inlined"), function("tcp_fastopen_add_skb", 6), function("dst_discard", 1),
        function("dst_discard", 2),
    ]  # fmt: skip
    assert find_targets(functions, symbols) == Targets(
        [IP_RCV],
        {
            "the skb is behind argument 5": ["tcp_fastopen_add_skb"],
            "several functions have this name, the skb in different places": ["dst_discard"],
            "the compiler left only parts of it": ["inlined"],
        },
    )
    assert len(find_targets(functions, symbols, max_arg=6).found) == 2


def test_functions_of_one_name_that_differ_in_their_socket(symbols: Kallsyms) -> None:
    functions = [function("add_grec"), function("add_grec", btf_id=8)._replace(sock_arg=2)]
    assert [target.sock_arg for target in find_targets(functions, symbols).found] == [0, 0]
    assert [target.sock_arg for target in find_targets(functions[1:], symbols).found] == [2, 2]


def test_a_renamed_function_has_the_name_of_its_symbol(symbols: Kallsyms) -> None:
    (target,) = find_targets([function("ip6_route_redirect", 3)], symbols).found
    assert (target.name, target.skb_arg) == ("ip6_route_redirect.constprop.0.isra.0", 3)


def test_functions_of_a_module(symbols: Kallsyms) -> None:
    found = find_targets([function("veth_xmit"), function("ip_rcv")], symbols, module="veth")
    assert found.found == [Target("veth_xmit", 0xFFFFFFFFC0567A50, 1, 0, False, 7, "veth", False)]


# --- `functions` ---


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("ip_rcv", {"ip_rcv"}),
        ("ip|ip_rcv", {"ip_rcv"}),  # any alternative, not only the first that fits
        ("ip_rcv.*", {"ip_rcv", "ip_rcv_core", "ip_rcv_finish"}),
        (".*_(core|reason)", {"ip_rcv_core", "kfree_skb_reason"}),
        ("^ip_rcv$", {"ip_rcv"}),
    ],
)
def test_the_whole_name_has_to_match(symbols: Kallsyms, expression: str, names: set[str]) -> None:
    functions = [function(name) for name in ("ip_rcv", "ip_rcv_core", "ip_rcv_finish", "kfree_skb_reason")]
    assert {target.name for target in select(find_targets(functions, symbols), expression).found} == names


def test_a_renamed_function_matches_by_its_name_in_the_source(symbols: Kallsyms) -> None:
    (target,) = select(find_targets([function("ip6_route_redirect")], symbols), "ip6_route_redirect").found
    assert target.name == "ip6_route_redirect.constprop.0.isra.0"


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("ip6_route_redirect.constprop.0.isra.0", {"ip6_route_redirect.constprop.0.isra.0"}),
        ("ip_rcv+0x4f|kfree_skb_reason", {"ip_rcv", "kfree_skb_reason"}),
        ("veth_xmit[veth]|ip_rcv", {"veth_xmit", "ip_rcv"}),
        ("(veth_xmit+0x1c[veth]|ip_rcv_core)", {"veth_xmit", "ip_rcv_core"}),
        ("veth_xmit[veth].*", set()),  # a part of a regular expression: one of these letters
        ("ip_rcv[veth]", set()),
        ("ip_rc[v]", {"ip_rcv"}),
        ("ip_rcv[_a-z]*", {"ip_rcv", "ip_rcv_core"}),
    ],
)
def test_names_as_they_are_printed(symbols: Kallsyms, expression: str, names: set[str]) -> None:
    functions = [function(name) for name in ("ip_rcv", "ip_rcv_core", "kfree_skb_reason", "ip6_route_redirect")]
    everything = union(
        [find_targets(functions, symbols), find_targets([function("veth_xmit")], symbols, module="veth")]
    )
    assert {target.name for target in select(everything, expression).found} == names


def test_no_match_names_what_is_near(symbols: Kallsyms) -> None:
    everything = find_targets([function(name) for name in ("ip_rcv", "ip_rcv_core", "kfree_skb_reason")], symbols)
    for expression, near in (("ip_rvc", "ip_rcv"), ("kfree_skb", "kfree_skb_reason"), ("rcv", "ip_rcv_core or ip_rcv")):
        assert select(everything, expression) == Targets([], {})
        message = str(nothing_left(everything, expression))
        assert f"`functions` {expression}: matches no function" in message
        assert near in message
    assert str(nothing_left(everything, "QQQQQQQQQQ")).endswith("argument")


def test_all_that_match_cannot_be_probed(symbols: Kallsyms, tmp_path: Path) -> None:
    everything = find_targets([function("ip_rcv"), function("inlined"), function("tcp_fastopen_add_skb", 6)], symbols)
    for expression, cause in (
        ("inl.*", "inlined: the compiler left only parts of it"),
        ("tcp.*", "tcp_fastopen_add_skb: the skb is behind argument 5"),
    ):
        assert not select(everything, expression).found
        message = str(nothing_left(everything, expression))
        assert message == f"`functions` {expression}: no function is left to probe ({cause})"
    write_lists(tmp_path, available_filter_functions="other\n")
    none = drop_notrace(targets("a", "b", "c", "d"), tmp_path, "/dev/null")
    assert not none.found
    assert "a, b, c, …: it is notrace" in str(nothing_left(none, None))


def test_union(symbols: Kallsyms) -> None:
    """Of functions that the compiler found equal and made one, the first name is taken."""
    veth = find_targets([function("veth_xmit"), function("inlined")], symbols, module="veth")
    twin = veth.found[0]._replace(name="veth_twin")
    kernel = find_targets([function("ip_rcv"), function("gone")], symbols)
    assert union([kernel, veth, Targets([twin], {})]) == Targets(
        [IP_RCV, *veth.found], {"the compiler left only parts of it": ["gone", "inlined"]}
    )


# --- ftrace ---

NOP = bytes.fromhex("0f1f440000")
ENDBR = bytes.fromhex("f30f1efa")
POISON = bytes.fromhex("0f1f40d6")
PUSH = bytes.fromhex("4157415641554154")


def core(path: Path, code: dict[int, bytes], base: int = 0xFFFFFFFF81000000) -> str:
    """An ELF core file as /proc/kcore: notes, another segment, and one with this code."""
    text = bytearray(0x1000)
    for address, content in code.items():
        text[address - base : address - base + len(content)] = content
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    programs = [(4, 232, 0, 16), (1, 248, 0xFFFF888000000000, 8), (1, 256, base, len(text))]
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, 7, at, start, 0, size, size, 0) for kind, at, start, size in programs
    )
    path.write_bytes(header + table + bytes(24) + text)
    return str(path)


def targets(*names: str) -> Targets:
    start = 0xFFFFFFFF81000000
    return Targets(
        [Target(name, start + 16 * n, 1, 0, False, n, None, False) for n, name in enumerate(names)], {"x": ["y"]}
    )


def write_lists(folder: Path, **lists: str) -> Path:
    for name, text in lists.items():
        (folder / name).write_text(text)
    return folder


x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the code is looked at on x86-64 only")


@x86_64
def test_functions_begin_with_the_nop_of_ftrace(tmp_path: Path) -> None:
    names = ("plain", "ibt", "fineibt", "notrace", "notrace_ibt", "last")
    code = (NOP + PUSH, ENDBR + NOP, POISON + NOP, PUSH, ENDBR + PUSH, NOP + PUSH)
    wanted = targets(*names)
    kcore = core(tmp_path / "kcore", {target.address: text for target, text in zip(wanted.found, code, strict=True)})
    found = drop_notrace(wanted, tmp_path, kcore)
    assert [target.name for target in found.found] == ["plain", "ibt", "fineibt", "last"]
    assert found.skipped == {"x": ["y"], "it is notrace": ["notrace", "notrace_ibt"]}
    assert drop_notrace(targets("plain"), tmp_path, kcore) == targets("plain")


@x86_64
def test_a_function_that_is_being_traced_begins_with_a_call(tmp_path: Path) -> None:
    call, changing = b"\xe8\0\1\2\3", b"\xcc" + NOP[1:]
    wanted = targets("free", "traced", "traced_ibt", "changing", "begins_with_a_call")
    code = (NOP + PUSH, call + PUSH, ENDBR + call, changing + PUSH, call + PUSH)
    kcore = core(tmp_path / "kcore", {target.address: text for target, text in zip(wanted.found, code, strict=True)})
    write_lists(tmp_path, available_filter_functions="traced\ntraced_ibt\nchanging\nother\n", enabled_functions="")
    found = [target.name for target in drop_notrace(wanted, tmp_path, kcore).found]
    assert found == ["free", "traced", "traced_ibt", "changing"]


def test_the_list_where_the_code_cannot_be_read(tmp_path: Path) -> None:
    write_lists(tmp_path, available_filter_functions="a\nb\nb_c\nmodule_function [m]\n")
    wanted = targets("a", "c", "b", "module_function")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\x7fELF")
    short = Path(core(tmp_path / "short", {}))
    short.write_bytes(short.read_bytes()[:250])
    partial = Path(core(tmp_path / "partial", {target.address: NOP + PUSH for target in wanted.found}))
    partial.write_bytes(partial.read_bytes()[: 256 + 16 * 3 + 5])
    unknown = core(tmp_path / "unknown", {target.address: PUSH for target in wanted.found})
    elsewhere = core(tmp_path / "elsewhere", {}, base=0xFFFFFFFF80000000)
    for kcore in (str(tmp_path / "absent"), str(damaged), str(short), str(partial), unknown, elsewhere, "/dev/null"):
        found = drop_notrace(wanted, tmp_path, kcore)
        assert [target.name for target in found.found] == ["a", "b", "module_function"]
        assert found.skipped["it is notrace"] == ["c"]


def test_neither_can_be_read(tmp_path: Path) -> None:
    wanted = targets("a", "b")
    assert drop_notrace(wanted, tmp_path, str(tmp_path / "absent")) == wanted


def test_blacklist(tmp_path: Path) -> None:
    wanted = targets("a", "int3_handler")
    path = tmp_path / "blacklist"
    path.write_text("0xffffffff8bc081a0-0xffffffff8bc081d0\tint3_handler\n0xffffffff8bc081d0-0xffffffff8bc081e0\tb\n")
    found = drop_blacklisted(wanted, [str(tmp_path / "absent"), str(path)])
    assert [target.name for target in found.found] == ["a"]
    assert found.skipped == {"x": ["y"], "kprobes are not allowed in it": ["int3_handler"]}
    assert drop_blacklisted(wanted, [str(tmp_path / "absent")]) == wanted
