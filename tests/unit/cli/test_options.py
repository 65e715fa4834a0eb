"""What flags mean."""

from __future__ import annotations

import os
import re

import pytest

from pwru.cli.options import parse
from pwru.cli.values import PROTOCOLS
from pwru.commands.options import Options
from pwru.errors import PwruError
from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import Compiler, compile_filter
from pwru.live.request import Request
from pwru.record.shown import Shown


def test_no_arguments_is_everything() -> None:
    assert parse([]) == Options()


def test_words_are_one_filter() -> None:
    assert parse(["host", "1.1.1.1", "and", "tcp port 80"]).request.filter.expression == "host 1.1.1.1 and tcp port 80"


def test_filter_may_stand_between_flags() -> None:
    chosen = parse(["--filter-ifname", "eth0", "icmp", "--output-limit-lines", "3"])
    assert (chosen.request.filter.expression, chosen.request.ifname, chosen.limit) == ("icmp", "eth0", 3)


@pytest.mark.parametrize(
    ("arguments", "expression"),
    [
        (["--src-ip", "10.0.0.1"], "src host 10.0.0.1"),
        (["--dst-ip=10.0.0.0/8"], "dst net 10.0.0.0/8"),
        (["--dst-ip=10.0.0.0/255.0.0.0"], "dst net 10.0.0.0/8"),
        (["--src-ip=0.0.0.0/0"], "src net 0.0.0.0/0"),
        (["--src-ip=::/0"], "src net ::/0"),
        (["--src-ip=10.0.0.1/32"], "src host 10.0.0.1"),
        (["--src-ip=FD00::0:1"], "src host fd00::1"),
        (["--dst-ip=fd00::/8"], "dst net fd00::/8"),
        (["--sport=0", "--dport=65535"], "src port 0 and dst port 65535"),
        (["--proto=tcp"], "tcp"),
        (["--proto=0"], "(ip proto 0 or ip6 proto 0)"),
        (["--proto=255"], "(ip proto 255 or ip6 proto 255)"),
        (["tcp", "or udp", "--dport", "53"], "(tcp or udp) and dst port 53"),
        (["vlan 5", "--proto=6", "--dst-ip=::1"], "(vlan 5) and dst host ::1 and (ip proto 6 or ip6 proto 6)"),
        (
            ["--proto", "udp", "--dport=4", "--sport=3", "--dst-ip=10.0.0.2", "--src-ip=10.0.0.1"],
            "src host 10.0.0.1 and dst host 10.0.0.2 and src port 3 and dst port 4 and udp",
        ),
        *((["--proto", name], name) for name in PROTOCOLS.split(", ")),
    ],
)
def test_flags_that_are_joined_to_the_filter(arguments: list[str], expression: str) -> None:
    chosen = parse(arguments)
    assert chosen.request.filter.expression == expression
    compile_filter(chosen.request.filter)


@pytest.mark.parametrize("typed", ["tcp prot 80", "tcp) or (udp"])
def test_an_error_is_about_what_was_typed(typed: str) -> None:
    chosen = parse([typed, "--dport", "80"])
    with pytest.raises(PwruError, match=f"^pcap filter {re.escape(repr(typed))}: .*syntax error, at or after '[^&]*'$"):
        Compiler(chosen.request.filter).programs()


def test_all_kprobes_is_the_default() -> None:
    assert parse(["--all-kprobes", "icmp"]) == parse(["icmp"])


@pytest.mark.parametrize(
    ("argument", "mark", "mask"),
    [
        ("0", 0, 0xFFFFFFFF),
        ("0x0", 0, 0xFFFFFFFF),
        ("0/0", 0, 0),
        ("0/0xff", 0, 0xFF),
        ("10", 10, 0xFFFFFFFF),
        ("0xa0/0xf0", 0xA0, 0xF0),
        ("4294967295", 0xFFFFFFFF, 0xFFFFFFFF),
        ("0X0000000aF", 0xAF, 0xFFFFFFFF),
    ],
)
def test_mark(argument: str, mark: int, mask: int) -> None:
    chosen = parse(["--filter-mark", argument])
    assert (chosen.request.mark, chosen.request.mark_mask) == (mark, mask)
    assert parse([]).request.mark_mask == 0


def test_kprobe_batch() -> None:
    assert parse(["--filter-kprobe-batch", "250"]).request.kprobe_batch == 250


@pytest.mark.parametrize(
    ("argument", "value"),
    [("--output-json", True), ("--output-json=true", True), ("--output-json=false", False), ("--output-json=0", False)],
)
def test_booleans_take_a_value(argument: str, value: bool) -> None:
    assert parse([argument]).json is value


def test_a_bare_boolean_leaves_the_filter_alone() -> None:
    chosen = parse(["--output-json", "udp", "port", "53"])
    assert (chosen.json, chosen.request.filter.expression) == (True, "udp port 53")
    assert parse(["--", "--debug"]).request.filter.expression == "--debug"


def test_flags_may_stand_anywhere() -> None:
    chosen = parse(["udp", "--debug", "port", "--output-limit-lines", "3", "53", "--", "or", "-x"])
    assert chosen == Options(request=Request(filter=Filter("udp port 53 or -x")), debug=True, limit=3)


def test_skb_expr() -> None:
    chosen = parse(["--filter-skb-expr", "skb->len > 1000", "icmp"])
    assert (chosen.request.skb_expr, chosen.request.filter.expression) == ("skb->len > 1000", "icmp")
    assert parse(["--filter-skb-expr="]).request.skb_expr == ""


def test_modules() -> None:
    chosen = parse(["--kmods", "veth, nf-tables", "icmp", "--all-kmods"])
    assert (chosen.request.modules, chosen.request.all_modules, chosen.request.filter.expression) == (
        ("veth", "nf-tables"),
        True,
        "icmp",
    )


def test_output_files() -> None:
    arguments = ["--output-file", "f", "--output-file-max-size=1", "--output-file-max-age", "2"]
    chosen = parse([*arguments, "--output-file-max-backups", "3", "--output-file-compress", "icmp"])
    assert chosen == Options(
        request=Request(filter=Filter("icmp")),
        output_file="f",
        output_file_max_size=1,
        output_file_max_age=2,
        output_file_max_backups=3,
        output_file_compress=True,
    )
    assert parse(["--output-file", "f"]) == Options(output_file="f")


def test_how_much_of_the_payload() -> None:
    """The value may be missing: what comes behind is the filter then."""
    assert parse(["--output-payload", "tcp"]).request.parts["payload"] == 128
    assert parse(["--output-payload"]).request.parts["payload"] == 128
    chosen = parse(["--output-payload", "64", "tcp"])
    assert (chosen.request.parts["payload"], chosen.request.filter.expression) == (64, "tcp")
    assert parse(["--output-payload=1024"]).request.parts["payload"] == 1024
    assert parse(["tcp"]).request.parts == {"meta": 0, "tuple": 0}


@pytest.mark.parametrize("flag", ["--follow", "--filter-track-skb", "--follow=true", "--filter-track-skb=1"])
def test_to_follow_has_two_names(flag: str) -> None:
    chosen = parse([flag, "--follow-packets=1024", "--output-packet-id", "tcp"])
    assert (chosen.request.follow, chosen.request.follow_limit, chosen.packet_id) == (True, 1024, True)
    assert (chosen.request.parts, chosen.request.filter.expression) == ({"meta": 0, "tuple": 0, "follow": 0}, "tcp")
    assert parse([flag]).request.follow_limit == Request().follow_limit
    assert parse([flag, "--follow=false"]) == Options()


def test_what_makes_no_sense_without_another_turns_it_on() -> None:
    by_stack = parse(["--filter-track-skb-by-stackid", "tcp"]).request
    assert (by_stack.follow, by_stack.by_stack, by_stack.parts) == (True, True, {"meta": 0, "tuple": 0, "follow": 0})
    further = parse(["--filter-non-skb-funcs", "a,b", "tcp"]).request
    assert further == by_stack._replace(without_skb=("a", "b"))
    helpers = parse(["--filter-trace-xdp", "--filter-track-bpf-helpers", "tcp"]).request
    assert helpers == by_stack._replace(trace_xdp=True, trace_helpers=True)
    both = parse(["--filter-track-bpf-helpers", "tcp"]).request
    assert (both.trace_tc, both.trace_xdp, both.trace_helpers) == (True, True, True)
    assert parse(["--filter-track-skb-by-stackid=false"]) == Options()


def test_lists_in_parts() -> None:
    chosen = parse(["--kmods", "a,b", "--kmods=c", "--output-skb-metadata=skb->mark", "tcp"])
    assert chosen.request.modules == ("a", "b", "c")
    assert parse(["--output-skb-metadata=x", "--output-skb-metadata=y,z"]).request.skb_metadata == ("x", "y", "z")
    drops = ["--filter-drop-reason", "no_socket", "--filter-drop-reason=3"]
    assert parse(drops).request.drop_reasons == ("no_socket", "3")


def test_a_process_as_it_is_printed() -> None:
    """Its name may have colons, or be cut."""
    assert [parse(["--filter-pid", text]).request.pid for text in ("ping:214", "kworker/0:1:214", "~rker/0:1:214")] == [
        214, 214, 214,
    ]  # fmt: skip


def test_a_comm_may_be_any_bytes() -> None:
    assert parse(["--filter-comm", os.fsdecode(b"\xff" * 15)]).request.comm == os.fsdecode(b"\xff" * 15)
    with pytest.raises(SystemExit):
        parse(["--filter-comm", "é" * 8])


def test_the_buffer_of_the_go_tool_is_not_needed() -> None:
    assert parse(["--set-percpu-buf", "8192", "tcp"]) == parse(["tcp"])


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        ([], set[str]()),
        (["--follow=false"], {"follow"}),
        (["--output-meta=false"], {"meta"}),
        (["--filter-drop-reason=any"], {"follow"}),
        (["--timestamp=none"], {"time"}),
    ],
    ids=str,
)
def test_a_recording_has_all_that_is_cheap(words: list[str], lacks: set[str]) -> None:
    """But what somebody refused, or what cannot be had. Lines have only what was asked for."""
    options = parse(["-w", "x.pwru", *words])
    everything = {"location", "meta", "cb", "tuple", "tunnel", "follow", "time", "payload"}
    assert options.request.parts.keys() == everything - lacks
    assert options.request.follow is ("follow" not in lacks)
    assert options.request.tcp_flags
    assert options.shown
    assert options.shown.parts.keys() == {"meta", "tuple"} - lacks
    assert options.request.parts["payload"] == 128
    assert parse(["-w", "x", "--output-payload=1000", *words]).request.parts["payload"] == 1000


@pytest.mark.parametrize(
    ("words", "rotates"), [([], False), (["--output-file-max-size=1"], True), (["--output-file-max-backups=1"], True)]
)
def test_a_recording_is_one_file_unless_told_otherwise(words: list[str], rotates: bool) -> None:
    assert parse(["-w", "x.pwru", *words]).write_rotates is rotates


def test_what_a_capture_is_made_from() -> None:
    """--output-pcap asks for it; other sizes stay what they are, and lines show what they would without it."""
    options = parse(["--output-pcap=f", "--print", "icmp"])
    assert options.request.parts == {
        **{"location": 0, "meta": 0, "tuple": 0, "follow": 0, "time": 0},
        "payload": 128,
    }
    assert options.request.follow
    assert options.shown == Shown({"meta": 0, "tuple": 0})
    chosen = parse(["--output-pcap", "f", "--follow=false", "--output-payload=64", "--output-tuple=false"]).request
    assert (chosen.follow, chosen.parts) == (False, {"location": 0, "meta": 0, "time": 0, "payload": 64})
    assert not parse(["--output-pcap=f", "--filter-drop-reason=any"]).request.follow
    assert parse(["--output-pcap=f", "-w", "g"]).shown == parse(["-w", "g"]).shown
    assert "time" in parse(["--output-pcap=f", "--timestamp=none"]).request.parts


@pytest.mark.parametrize(("words", "shows"), [([], False), (["--follow"], True), (["--output-packet-id"], True)])
def test_lines_beside_a_recording_show_what_they_do_without(words: list[str], shows: bool) -> None:
    shown = parse(["-w", "x.pwru", "--print", *words]).shown
    assert shown
    assert ("follow" in shown.parts) is shows
