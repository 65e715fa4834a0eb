"""The table of flags, and that nothing else is needed for a flag."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from pwru.cli.flags import FLAGS, Flag, Kind, flags_named, switch
from pwru.cli.options import parse
from pwru.commands.options import Options
from pwru.live.request import Request
from pwru.record.parts import PARTS
from pwru.replay.moments import Moment, Span

# For each flag that takes a value: an argument, and what the field or the size of the part is then.
VALUES: dict[str, tuple[str, Any]] = {
    "PCAP-FILTER": ("tcp", "tcp"),
    "--src-ip": ("10.0.0.1", ("src host 10.0.0.1",)),
    "--dst-ip": ("::/0", ("dst net ::/0",)),
    "--sport": ("1", ("src port 1",)),
    "--dport": ("2", ("dst port 2",)),
    "--proto": ("icmp", ("icmp",)),
    "--filter-netns": ("inode:1", "inode:1"),
    "--filter-ifname": ("eth0", "eth0"),
    "--filter-mark": ("1/0xff", (1, 0xFF)),
    "--filter-skb-expr": ("skb->len > 1", "skb->len > 1"),
    "--filter-xdp-expr": ("xdp->frame_sz > 1", "xdp->frame_sz > 1"),
    "--filter-tunnel-pcap-l2": (" arp ", "arp"),
    "--filter-tunnel-pcap-l3": ("udp", "udp"),
    "--filter-pid": ("7", 7),
    "--filter-comm": ("curl", "curl"),
    "--filter-drop-reason": ("any", ("any",)),
    "--follow-packets": ("1024", 1024),
    "--filter-non-skb-funcs": ("kfree, dst_release.isra.0", ("kfree", "dst_release.isra.0")),
    "--only": ("dropped, slower=5ms", ("dropped", "slower=5ms")),
    "--filter-func": ("ip_.*", "ip_.*"),
    "--kmods": ("veth,bridge", ("veth", "bridge")),
    "--backend": ("kprobe", "kprobe"),
    "--filter-kprobe-batch": ("9", 9),
    "--ring-buffer-size": ("8M", 8 << 20),
    "--kernel-btf": ("vmlinux", "vmlinux"),
    "--ready-file": ("ready", "ready"),
    "--user": ("nobody", "nobody"),
    "--output-skb-metadata": ("skb->mark,skb->len", ("skb->mark", "skb->len")),
    "--output-xdp-metadata": ("xdp->data,xdp->data_end", ("xdp->data", "xdp->data_end")),
    "--output-payload": ("64", 64),
    "--timestamp": ("relative", "relative"),
    "--color": ("never", "never"),
    "--output-limit-lines": ("3", 3),
    "--output-file": ("f", "f"),
    "--output-file-max-size": ("5", 5),
    "--output-file-max-age": ("6", 6),
    "--output-file-max-backups": ("7", 7),
    "--report": ("r.html", "r.html"),
    "--output-pcap": ("f", "f"),
    "--netns-names-max-length": ("20", 20),
    "--set-percpu-buf": ("4096", None),
    "-w": ("x.pwru", "x.pwru"),
    "-r": ("x.pwru", "x.pwru"),
    "--output-parquet": ("x.parquet", "x.parquet"),
    "--filter-packet": ("#17,3", (17, 3)),
    "--filter-time": ("+1..+2", Span(Moment("+1"), Moment("+2"))),
    "--completion": ("zsh", "zsh"),
}
# What a flag is refused without, or has no effect without.
NEEDS = {"--netns-names-max-length": ["--output-netns-names"]}
NEEDS |= {name: ["--follow"] for name in ("--follow-packets", "--output-packet-id")}
NEEDS |= {name: ["-r=x"] for name in ("--filter-packet", "--filter-time", "--output-parquet")}
NEEDS |= {"--filter-track-skb-by-stackid": ["--follow"], "--filter-non-skb-funcs": ["--filter-track-skb-by-stackid"]}
NEEDS |= {"--group": ["--follow"], "--stages": ["--group"]}
NEEDS |= {name: ["--filter-trace-xdp"] for name in ("--filter-xdp-expr", "--output-xdp-metadata")}
NEEDS |= {name: ["--follow", "--timestamp=current", "--output-caller"] for name in ("--only", "--summary")}
NEEDS["--filter-track-bpf-helpers"] = ["--filter-trace-xdp", "--filter-track-skb-by-stackid"]
NEEDS["--output-bpfmap"] = ["--filter-trace-xdp", "--filter-track-bpf-helpers"]
NEEDS["--output-pcap"] = ["--follow", "--output-payload", "--output-caller", "--timestamp=current"]  # what it turns on
NEEDS["--output-pcap-all"] = ["--output-pcap=x"]
NEEDS |= {flag.name: ["--output-file=x"] for flag in FLAGS if flag.name.startswith("--output-file-")}


def field(options: Options, path: str) -> Any:
    return reduce(getattr, path.split("."), options)


def fields(options: Options) -> dict[str, Any]:
    """Return all that a flag can set, by path."""
    paths = {path for flag in FLAGS for path in flag.sets.split()}
    parts = {f"request.parts.{name}": size for name, size in options.request.parts.items()}
    return {path: field(options, path) for path in paths} | parts


# --diff takes the words after it, too: tests/unit/commands/test_diff.py.
TAKES_VALUE = [flag for flag in FLAGS if flag.kind in (Kind.VALUE, Kind.LIST, Kind.WORDS) and flag.name != "--diff"]
# --all-kprobes sets nothing, and is refused if it is false: test_usage.py.
SWITCHES = [flag for flag in FLAGS if flag.kind is Kind.BOOLEAN and flag.name != "--all-kprobes"]


@pytest.mark.parametrize("flag", TAKES_VALUE, ids=lambda flag: flag.name)
def test_what_a_value_sets(flag: Flag) -> None:
    """It is what the row says, and nothing else."""
    text, value = VALUES[flag.name]
    needs = NEEDS.get(flag.name, [])
    options = parse([*needs, text] if flag.kind is Kind.WORDS else [*needs, f"{flag.name}={text}"])
    paths = flag.sets.split()
    if flag.name in ("-w", "--report"):  # it asks for more: test_options.py
        options = options._replace(request=parse(needs).request)
    changed = dict(zip(paths, value if len(paths) > 1 else [value], strict=False))
    if flag.part:
        changed[f"request.parts.{flag.part}"] = value if isinstance(value, int) else 0
    assert fields(options) == fields(parse(needs)) | changed


@pytest.mark.parametrize("flag", SWITCHES, ids=lambda flag: flag.name)
@pytest.mark.parametrize("on", [True, False])
def test_what_a_switch_sets(flag: Flag, on: bool) -> None:
    needs = NEEDS.get(flag.name, [])
    for name in flag.names.split():
        for arguments in [[f"{name}={on}"], *([[name]] if on else [])]:
            set_ = fields(parse([*needs, *arguments]))
            expected = fields(parse(needs)) | dict.fromkeys(flag.sets.split(), on)
            expected.pop(part := f"request.parts.{flag.part}", None)
            if on and flag.part:
                expected[part] = 0
            if on and flag.name == "--group":
                expected |= {"request.parts.time": 0, "request.parts.location": 0, "request.tcp_flags": True}
            if on and flag.name == "--output-netns-names":
                expected["netns_names"] = 16
            assert set_ == expected


def test_paths_and_parts_exist() -> None:
    for flag in FLAGS:
        for path in flag.sets.split():
            field(Options(), path)
        assert not flag.part or flag.part in PARTS


def test_every_field_has_a_flag() -> None:
    """All but the containers, and the field for parts."""
    paths = {path for flag in FLAGS for path in flag.sets.split()}
    wanted = {*Options._fields, *(f"request.{name}" for name in Request._fields)}
    wanted |= {f"request.filter.{name}" for name in Request().filter._fields}
    follow_from_others = {"shown", "write_rotates", "command", "follow_recorded"}
    assert paths == wanted - {"request", "request.filter", "request.parts"} - follow_from_others
    # `values` are the fields of --output-skb-metadata and --output-xdp-metadata.
    assert {flag.part for flag in FLAGS if flag.part} == PARTS.keys() - {"values"}


def test_defaults_are_those_of_a_request() -> None:
    on = {flag.part: 0 for flag in FLAGS if flag.part and flag.default not in (None, flag.off)}
    assert on == Request().parts


def test_names_are_unique() -> None:
    names = [name for flag in FLAGS for name in flag.names.split()]
    assert len(names) == len(set(names))
    parameters = [parameter for flag in FLAGS for parameter in flag.parameters]
    assert len(parameters) == len(set(parameters))


@pytest.mark.parametrize(
    ("row", "argument", "size"),
    [
        (switch("--output-queue", "the queue", part="queue_mapping"), "--output-queue", 0),
        (Flag("--output-queue", "N bytes of the queue", "N", int, part="queue_mapping"), "--output-queue=7", 7),
    ],
)
def test_a_row_is_enough_for_a_part(row: Flag, argument: str, size: int) -> None:
    flags = [*FLAGS, row]
    assert parse([argument, "tcp"], flags).request.parts == {"meta": 0, "tuple": 0, "queue_mapping": size}
    assert parse(["tcp"], flags) == parse(["tcp"])


@pytest.mark.parametrize(
    ("parameter", "flag"),
    {
        "functions": "--filter-func",
        "modules": "--kmods",
        "all_modules": "--all-kmods",
        "netns": "--filter-netns",
        "ifname": "--filter-ifname",
        "mark": "--filter-mark",
        "pid": "--filter-pid",
        "comm": "--filter-comm",
        "drop_reasons": "--filter-drop-reason",
        "skb_expr": "--filter-skb-expr",
        "xdp_expr": "--filter-xdp-expr",
        "skb_metadata": "--output-skb-metadata",
        "xdp_metadata": "--output-xdp-metadata",
        "tunnel_l2": "--filter-tunnel-pcap-l2",
        "tunnel_l3": "--filter-tunnel-pcap-l3",
        "kernel_btf": "--kernel-btf",
        "ring_buffer_size": "--ring-buffer-size",
        "kprobe_batch": "--filter-kprobe-batch",
        "backend": "--backend",
        "stack": "--output-stack",
        "caller": "--output-caller",
        "output_file": "--output-file",
        "output_file_max_size": "--output-file-max-size",
        "output_pcap": "--output-pcap",
        "ready_file": "--ready-file",
        "limit": "--output-limit-lines",
        "follow": "--follow",
        "follow_limit": "--follow-packets",
        "strict": "--strict",
        "debug": "--debug",
    }.items(),
)
def test_flags_named(parameter: str, flag: str) -> None:
    assert flags_named(f"see `{parameter}`, {parameter}") == f"see {flag}, {parameter}"


@pytest.mark.parametrize(
    "text", ["`ulimit -n 5`", "`any`", "`skb` alone is no field", "`net`", "`protochain`", "`", ""]
)
def test_other_words_in_backticks(text: str) -> None:
    assert flags_named(text) == text


@pytest.mark.parametrize("word", ["`netns`", "--filter-netns=`netns`", "`functions` and `backend`"])
def test_text_that_was_typed_is_left_as_it_is(word: str) -> None:
    value = word.partition("=")[2] or word
    text = f"`netns`: '{value}' is none; see `functions`"
    expected = f"{'`netns`' if value == '`netns`' else '--filter-netns'}: '{value}' is none; see --filter-func"
    assert flags_named(text, ["--json", word]) == expected
