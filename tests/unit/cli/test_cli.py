"""The command line: what flags mean, what a wrong one says, and how errors leave the command."""

from __future__ import annotations

import os
import re
import shlex

import pytest

from pwru import __version__, cli
from pwru.commands.options import Options
from pwru.errors import PwruError
from pwru.filter.packet.pcap import Compiler, Filter, compile_filter


def test_no_arguments_is_everything() -> None:
    assert cli.options([]) == Options()


def test_words_are_one_filter() -> None:
    assert cli.options(["host", "1.1.1.1", "and", "tcp port 80"]).pcap_filter == "host 1.1.1.1 and tcp port 80"


def test_filter_may_stand_between_flags() -> None:
    chosen = cli.options(["--filter-ifname", "eth0", "icmp", "--output-limit-lines", "3"])
    assert (chosen.pcap_filter, chosen.filter_ifname, chosen.output_limit_lines) == ("icmp", "eth0", 3)


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
        *((["--proto", name], name) for name in cli._PROTOCOLS.split(", ")),
    ],
)
def test_flags_that_are_joined_to_the_filter(arguments: list[str], expression: str) -> None:
    chosen = cli.options(arguments)
    assert chosen.pcap_filter == expression
    compile_filter(Filter(chosen.pcap_typed or chosen.pcap_filter, chosen.pcap_primitives))


@pytest.mark.parametrize("typed", ["tcp prot 80", "tcp) or (udp"])
def test_an_error_is_about_what_was_typed(typed: str) -> None:
    chosen = cli.options([typed, "--dport", "80"])
    with pytest.raises(PwruError, match=f"^pcap filter {re.escape(repr(typed))}: .*syntax error, at or after '[^&]*'$"):
        Compiler(Filter(chosen.pcap_typed or chosen.pcap_filter, chosen.pcap_primitives)).programs()


def test_all_kprobes_is_the_default() -> None:
    assert cli.options(["--all-kprobes", "icmp"]) == cli.options(["icmp"])


@pytest.mark.parametrize(
    ("argument", "mark", "mask"),
    [
        ("0", 0, 0),
        ("0/0", 0, 0),
        ("0/0xff", 0, 0xFF),
        ("10", 10, 0xFFFFFFFF),
        ("0xa0/0xf0", 0xA0, 0xF0),
        ("4294967295", 0xFFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_mark(argument: str, mark: int, mask: int) -> None:
    chosen = cli.options(["--filter-mark", argument])
    assert (chosen.filter_mark, chosen.filter_mark_mask) == (mark, mask)


def test_kprobe_batch() -> None:
    assert cli.options(["--filter-kprobe-batch", "250"]).filter_kprobe_batch == 250


@pytest.mark.parametrize(
    ("argument", "value"),
    [("--output-json", True), ("--output-json=true", True), ("--output-json=false", False), ("--output-json=0", False)],
)
def test_booleans_take_a_value(argument: str, value: bool) -> None:
    assert cli.options([argument]).output_json is value


def test_a_bare_boolean_leaves_the_filter_alone() -> None:
    chosen = cli.options(["--output-json", "udp", "port", "53"])
    assert (chosen.output_json, chosen.pcap_filter) == (True, "udp port 53")
    assert cli.options(["--", "--debug"]).pcap_filter == "--debug"


def test_flags_may_stand_anywhere() -> None:
    chosen = cli.options(["udp", "--debug", "port", "--output-limit-lines", "3", "53", "--", "or", "-x"])
    assert chosen == Options(pcap_filter="udp port 53 or -x", debug=True, output_limit_lines=3)


def test_skb_expr() -> None:
    chosen = cli.options(["--filter-skb-expr", "skb->len > 1000", "icmp"])
    assert (chosen.filter_skb_expr, chosen.pcap_filter) == ("skb->len > 1000", "icmp")
    assert cli.options(["--filter-skb-expr="]).filter_skb_expr == ""


def test_modules() -> None:
    chosen = cli.options(["--kmods", "veth, nf-tables", "icmp", "--all-kmods"])
    assert (chosen.kmods, chosen.all_kmods, chosen.pcap_filter) == (("veth", "nf-tables"), True, "icmp")


def test_output_files() -> None:
    arguments = ["--output-file", "f", "--output-file-max-size=1", "--output-file-max-age", "2"]
    chosen = cli.options([*arguments, "--output-file-max-backups", "3", "--output-file-compress", "icmp"])
    assert chosen == Options(
        pcap_filter="icmp",
        output_file="f",
        output_file_max_size=1,
        output_file_max_age=2,
        output_file_max_backups=3,
        output_file_compress=True,
    )
    assert cli.options(["--output-file", "f"]) == Options(output_file="f")


@pytest.mark.parametrize("flag", ["max-size=1", "max-age=0", "max-backups=1", "compress", "compress=false"])
def test_rotation_without_a_file(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        cli.options([f"--output-file-{flag}"])
    assert exit_status.value.code == 2
    name = flag.partition("=")[0]
    assert f"--output-file-{name} says what becomes of --output-file, which is not there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output-file=f", "--output-file-max-size=0"], "--output-file-max-size: it must be 1 or more"),
        (["--output-file=f", "--output-file-max-age=-1"], "'-1' is not a number of 0 or more"),
        (["--output-file=f", "--output-file-max-backups=all"], "'all' is not a number of 0 or more"),
        (["--src-ip", "10.0.0"], "--src-ip: '10.0.0' is no address or network; 10.0.0.1 is one, or fd00::/8"),
        (
            ["--dst-ip", "10.0.0.1/8"],
            "--dst-ip: '10.0.0.1/8' is no address or network; did you mean 10.0.0.0/8?",
        ),
        (["--src-ip", "10.0.0.0/33"], "--src-ip: '10.0.0.0/33' is no address or network"),
        (["--src-ip", ""], "--src-ip: '' is no address or network"),
        (["--src-ip", "localhost"], "--src-ip: 'localhost' is no address or network"),
        (["--src-ip", "::1) or (tcp"], "--src-ip: '::1) or (tcp' is no address or network"),
        (["--src-ip", "fe80::1%eth0"], "'fe80::1%eth0' names an interface: a packet has none; see --filter-ifname"),
        (["--sport", "65536"], "--sport: '65536' is no port: a number up to 65535"),
        (["--dport", "http"], "--dport: 'http' is no port: a number up to 65535"),
        (["--dport=-1"], "--dport: '-1' is no port: a number up to 65535"),
        (["--dport=٨٠"], "is no port: a number up to 65535"),
        (["--proto", "256"], "--proto: '256' is no protocol: a number up to 255, or ah, arp,"),
        (["--proto", "tcpp"], "--proto: 'tcpp' is no protocol: a number up to 255, or ah, arp,"),
        (["--proto", "vlan"], "--proto: 'vlan' is no protocol"),
        (["--all-kprobes", "--filter-func", "ip_rcv"], "--filter-func: not allowed with argument --all-kprobes"),
        (["--all-kprobes=false"], "--all-kprobes=false: name the functions that are wanted with --filter-func"),
        (["--kmods", ""], "'' is not a list of names: a,b,c"),
        (["--kmods", "veth,,bridge"], "'veth,,bridge' is not a list of names: a,b,c"),
        (["--kmods", "../vmlinux"], "'../vmlinux' is not a list of names: a,b,c"),
        (["--frob"], "no such flag: --frob; pwru --help shows all flags"),
        (["-x"], "no such flag: -x; pwru --help shows all flags"),
        (["tcp", "--frob=1", "-x"], "no such flag: --frob; pwru"),
        (["--filter\x1b"], r"no such flag: --filter\x1b; pwru"),
        (["--filter-func"], "pwru: --filter-func: expected one argument; pwru --help shows all flags"),
        (["--backend", "magic"], "invalid choice: 'magic'"),
        (["--filter-mark", "0x100000000"], "'0x100000000' is not a number of 32 bits"),
        (["--filter-mark", "1/"], "'' is not a number of 32 bits"),
        (["--filter-mark=-1"], "'-1' is not a number of 32 bits"),
        (["--output-limit-lines", "-5"], "'-5' is not a number of 0 or more"),
        (["--output-limit-lines", "many"], "'many' is not a number"),
        (["--filter-kprobe-batch", "0"], "pwru: --filter-kprobe-batch: it must be 1 or more"),
        (["--filter-kprobe-batch=-1"], "'-1' is not a number of 0 or more"),
        (["--output-json=maybe"], "'maybe' is neither true nor false"),
    ],
)
def test_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        cli.options(arguments)
    assert exit_status.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pwru: ")
    assert message in line


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--filter-fun", "--filter-func"),
        ("--filter-fun=x", "--filter-func"),
        ("-filter-func", "--filter-func"),
        ("--filter_func", "--filter-func"),
        ("--output-jsson", "--output-json"),
        ("--output-limit", "--output-limit-lines"),
        ("--all-kmod", "--all-kmods"),
        ("--port", "--sport or --dport"),
        ("--debgu", "--debug"),
    ],
)
def test_a_misspelt_flag(word: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        cli.options(["tcp", word, "x"])
    assert exit_status.value.code == 2
    assert capsys.readouterr().err == f"pwru: no such flag: {word.partition('=')[0]}; did you mean {near}?\n"


@pytest.mark.parametrize("flag", ["--output-bpfmap", "--verbose", "--filter-trace-tc", "--filter"])
def test_a_flag_that_is_like_none(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong guess is worse than none."""
    with pytest.raises(SystemExit):
        cli.options([flag])
    assert "did you mean" not in capsys.readouterr().err


def help_text(flag: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as exit_status:
        cli.options([flag])
    assert exit_status.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(flag, columns, monkeypatch, capsys)
    assert max(map(len, text.splitlines())) < 80
    assert text.isascii()  # a terminal may know no more
    assert not re.search(r" $", text, re.MULTILINE)
    # Whatever may be given is there, and has its explanation beside it.
    for action in cli.parser()._actions:
        for name in action.option_strings or [str(action.metavar)]:
            assert re.search(rf"^  (\S+, )?{re.escape(name)}\b.*  \w", text, re.MULTILINE), name


def test_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text("--help", 80, monkeypatch, capsys)
    examples = re.findall(r"^  pwru (.*)\n      \w", text.partition("examples:")[2], re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        chosen = cli.options(shlex.split(example))
        assert compile_filter(Filter(chosen.pcap_typed or chosen.pcap_filter, chosen.pcap_primitives))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        cli.options(["--version"])
    assert exit_status.value.code == 0
    assert capsys.readouterr().out == f"pwru {__version__}\n"


def test_error_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise PwruError("the moon is full; wait for a new one")

    monkeypatch.setattr("pwru.commands.trace.trace", fail)
    assert cli.main([]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "pwru: the moon is full; wait for a new one\n")


def test_how_much_of_the_payload() -> None:
    """The value may be missing: what comes behind is the filter then."""
    assert cli.options(["--output-payload", "tcp"]).output_payload == 128
    assert cli.options(["--output-payload"]).output_payload == 128
    chosen = cli.options(["--output-payload", "64", "tcp"])
    assert (chosen.output_payload, chosen.pcap_filter) == (64, "tcp")
    assert cli.options(["--output-payload=1024"]).output_payload == 1024
    assert cli.options(["tcp"]).output_payload == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output-payload=0"], "'0' is not a number of bytes from 1 to 1024"),
        (["--output-payload", "1025"], "'1025' is not a number of bytes from 1 to 1024"),
        (["--output-skb-metadata", "skb->a,skb->b,skb->c,skb->d,skb->e"], "5 fields; up to 4 can be printed"),
        (["--output-skb-metadata", "skb->mark,"], "'skb->mark,' is not a list of fields: skb->mark,skb->dev->mtu"),
        (
            ["--output-skb-metadata=skb->mark", "--output-skb-metadata=skb->mark"],
            "a field is there twice: skb->mark, skb->mark",
        ),
        (["--output-skb-metadata=a,b,c", "--output-skb-metadata=d,e"], "5 fields; up to 4 can be printed"),
        (["--filter-pid", "4194305"], "4194305 is no PID: they are from 1 to 4194304"),
        (["--filter-pid", "0"], "0 is no PID: they are from 1 to 4194304"),
        (["--netns-names-max-length", "256"], "256: it must be 10 or more, up to 255"),
        (["--output-file=f", "--output-file-max-age=36501"], "36501: it must be 36500 or less; 0 is for ever"),
    ],
)
def test_details_that_are_not_possible(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.options(arguments)
    assert f": {message}; pwru --help" in capsys.readouterr().err


def test_lists_in_parts() -> None:
    chosen = cli.options(["--kmods", "a,b", "--kmods=c", "--output-skb-metadata=skb->mark", "tcp"])
    assert chosen.kmods == ("a", "b", "c")
    assert cli.options(["--output-skb-metadata=x", "--output-skb-metadata=y,z"]).output_skb_metadata == ("x", "y", "z")
    drops = ["--filter-drop-reason", "no_socket", "--filter-drop-reason=3"]
    assert cli.options(drops).filter_drop_reason == ("no_socket", "3")


def test_a_comm_may_be_any_bytes() -> None:
    assert cli.options(["--filter-comm", os.fsdecode(b"\xff" * 15)]).filter_comm == os.fsdecode(b"\xff" * 15)
    with pytest.raises(SystemExit):
        cli.options(["--filter-comm", "é" * 8])


@pytest.mark.parametrize("strict", [True, False])
def test_a_reader_that_has_gone_is_a_loss(strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(*_: object) -> bool:
        raise BrokenPipeError

    monkeypatch.setattr("pwru.commands.trace.trace", trace)
    assert cli.main([f"--strict={strict}"]) == (3 if strict else 0)


def test_the_buffer_of_the_go_tool_is_not_needed() -> None:
    assert cli.options(["--set-percpu-buf", "8192", "tcp"]) == cli.options(["tcp"])
