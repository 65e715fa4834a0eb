"""Options from the command line, and the rules between flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pwru.cli.flags import FLAGS, PAYLOAD, Flag, Kind
from pwru.cli.parser import Parser
from pwru.commands.options import Options
from pwru.filter.packet import Filter
from pwru.live.request import Request

if TYPE_CHECKING:
    from pwru.record.shown import Shown

# What these take of each event besides what is asked for; a size in bytes of what has none of its own. All turn on
# --follow.
_TAKES = {
    "-w": {"location": 0, "meta": 0, "cb": 0, "tuple": 0, "tunnel": 0, "time": 0, "payload": PAYLOAD},
    "--output-pcap": {"location": 0, "meta": 0, "time": 0, "payload": PAYLOAD},
    "--report": {"location": 0, "meta": 0, "tuple": 0, "time": 0, "payload": 64},
    "--summary": {"time": 0, "location": 0},
    "--only": {"time": 0},
}
_SHOW_PACKETS = ("--summary", "--only", "--output-packet-id")
_TAKE_TCP_FLAGS = ("-w", "--report")
_PRINTS = ("--summary", "--print")
_PROGRAMS = ("--filter-trace-tc", "--filter-trace-xdp")
# They ask for more than where packets are dropped.
_NOT_OF_DROPS = (
    "--filter-track-bpf-helpers",
    *("--only", "--stages", "--group", "--filter-non-skb-funcs", "--filter-track-skb-by-stackid", "--follow"),
    *("--filter-func", "--kmods", "--all-kmods"),
    *_PROGRAMS,
)
_BY_STACK = ("--filter-non-skb-funcs", "--filter-track-bpf-helpers", "--filter-track-skb-by-stackid")
# The backends that see on which stack a function runs.
_SEE_STACKS = ("kprobe-multi", "kprobe")
# A flag that makes no sense without another one turns it on: scripts for the Go tool know it so.
_TURNS_ON = {
    "--filter-non-skb-funcs": "--filter-track-skb-by-stackid",
    "--filter-track-bpf-helpers": "--filter-track-skb-by-stackid",
    "--filter-track-skb-by-stackid": "--follow",
    "--stages": "--group",
    "--group": "--follow",
}
# What is needed to put the events of a packet together, and to tell what became of it.
_GROUP_PARTS = ("time", "location")


def parse(arguments: Sequence[str], flags: Sequence[Flag] = FLAGS) -> Options:
    """Leaves the process with status 2 and a line on stderr if the command line is wrong."""
    parser = Parser(flags)
    given = parser.given(arguments)
    if "--diff" in given:
        _compare(given, parser)
    asked = any(given.get(name) for name in ("--follow", *_TURNS_ON, *_SHOW_PACKETS))
    _turn_on(given, parser)
    _check(given, parser)
    options = _options(given, flags)
    if options.read is not None:
        return _replaying(options, given)
    options = _taking(options, given, flags)
    if options.shown and not asked:  # files have the numbers of packets; lines have what they have without files
        parts = {part: size for part, size in options.shown.parts.items() if part != "follow"}
        options = options._replace(shown=options.shown._replace(parts=parts))
    return options


# What these need of the kernel.
_LIVE_ONLY = (
    *("--kmods", "--all-kmods", "--filter-trace-tc", "--filter-trace-xdp", "--backend", "--filter-kprobe-batch"),
    *("--ring-buffer-size", "--kernel-btf", "--ready-file", "--user", "--follow-packets", "--filter-xdp-expr"),
    *("--filter-track-skb-by-stackid", "--filter-non-skb-funcs", "--filter-track-bpf-helpers", "--check"),
)
_RECORDED_ONLY = ("--filter-packet", "--filter-time", "--output-parquet")


def _compare(given: dict[str, Any], parser: Parser) -> None:
    """Take free words for what is to be compared, of which there are no filters."""
    for name in sorted(given.keys() - {"--diff", "--output-json", "PCAP-FILTER"}):
        parser.error(f"--diff works only without {name}: all it can be told is in the words after it")
    words = given.pop("PCAP-FILTER")
    if len(words) not in (1, 2):
        parser.error("--diff compares two recordings, or packets of one by two filters, each in quotes")
    given["--diff"] = (given["--diff"], *words)


def _turn_on(given: dict[str, Any], parser: Parser) -> None:
    for name, other in _TURNS_ON.items():
        if given.get(name) and not given.setdefault(other, True):
            parser.error(f"{name} requires {other}")
    if given.get("--only") and not given.setdefault("--follow", True):
        parser.error("--only requires --follow")
    if any(given.get(name) for name in _TAKES):
        given.setdefault("--follow", "--filter-drop-reason" not in given)
    if given.get("--filter-track-bpf-helpers") and not any(given.get(name) for name in _PROGRAMS):
        for name in _PROGRAMS:
            if not given.setdefault(name, True):
                parser.error(f"--filter-track-bpf-helpers requires {' or '.join(_PROGRAMS)}")


def _check(given: Mapping[str, Any], parser: Parser) -> None:
    for name in given:
        if name.startswith("--output-file-") and not {"--output-file", "-w"} & given.keys():
            parser.error(f"{name} requires --output-file or -w")
    if given.get("--output-file-compress") and "--output-file" not in given:
        parser.error("--output-file-compress requires --output-file: a recording is compressed as it is")
    if given.get("--only") and given.get("--output-limit-lines"):
        parser.error("--only works only without --output-limit-lines: nobody knows which events will be printed")
    to_stdout = [f"{name} -" for name in ("-w", "--output-pcap") if given.get(name) == "-"]
    to_stdout += [name for name in _PRINTS if given.get(name) and (name == "--summary" or "--output-file" not in given)]
    if len(to_stdout) > 1 and to_stdout[0] not in _PRINTS:
        parser.error(f"{to_stdout[-1]} and {to_stdout[0]} both write to standard output")
    if given.get("--output-pcap-all") and "--output-pcap" not in given:
        parser.error("--output-pcap-all requires --output-pcap")
    if "--output-pcap" in given and not given.get("--output-meta", True):
        parser.error("--output-pcap requires --output-meta")
    if "-r" in given:
        for name in _LIVE_ONLY:
            if given.get(name):
                parser.error(f"{name} is about a live trace, and -r reads a recording")
        return
    for name in _RECORDED_ONLY:
        if name in given:
            parser.error(f"{name} requires -r")
    if not given.get("--follow"):
        for name in ("--follow-packets", "--output-packet-id"):
            if given.get(name):
                parser.error(f"{name} requires --follow")
    if (backend := given.get("--backend")) and backend not in _SEE_STACKS:
        for name in _BY_STACK:
            if given.get(name):
                parser.error(f"{name} works only with --backend {' or '.join(_SEE_STACKS)}")
    if given.get("--output-bpfmap") and not given.get("--filter-track-bpf-helpers"):
        parser.error("--output-bpfmap requires --filter-track-bpf-helpers")
    if not given.get("--all-kprobes", True):
        parser.error("--all-kprobes=false: name the functions that are wanted with --filter-func")
    if "--filter-drop-reason" in given:
        if given.get("--backend", "tracepoint") != "tracepoint":
            parser.error("--filter-drop-reason works only with --backend tracepoint")
        for name in _NOT_OF_DROPS:
            if given.get(name):
                parser.error(f"--filter-drop-reason works only without {name}")
    if given.get("--output-netns-names") and not given.get("--output-meta", True):
        parser.error("--output-netns-names names what --output-meta=false leaves out")
    for name in ("--filter-xdp-expr", "--output-xdp-metadata"):
        if name in given and not given.get("--filter-trace-xdp"):
            parser.error(f"{name} requires --filter-trace-xdp")
    for name in ("--output-skb-metadata", "--output-xdp-metadata"):
        _check_fields(name, given.get(name), parser)


def _check_fields(name: str, fields: Sequence[str] | None, parser: Parser) -> None:
    if fields:
        from pwru.live.loader import object_wire

        if len(fields) > (most := object_wire().constant("MAX_VALUES")):
            parser.error(f"{name}: {len(fields)} fields; up to {most} can be printed")
        if len(set(fields)) < len(fields):
            parser.error(f"{name}: a field is there twice: {', '.join(fields)}")


def _options(given: Mapping[str, Any], flags: Sequence[Flag]) -> Options:
    fields: dict[str, dict[str, Any]] = {"": {}, "request": {}, "request.filter": {"primitives": ()}}
    parts: dict[str, int] = {}
    for flag in flags:
        value = given.get(flag.name, flag.default)
        if value is None:
            continue
        if flag.kind is Kind.WORDS:
            value = " ".join(value).strip()
        elif flag.kind is Kind.LIST:
            value = tuple(value)
        if flag.part and value != flag.off:
            parts[flag.part] = value if type(value) is int else 0
        paths = flag.sets.split()
        for path, each in zip(paths, value if len(paths) > 1 else [value] * len(paths), strict=True):
            record, _, field = path.rpartition(".")
            if flag.primitive:
                fields[record][field] += (flag.primitive.format(each),)
            else:
                fields[record][field] = each
    if given.get("--group"):
        parts |= dict.fromkeys(("follow", *_GROUP_PARTS), 0)
        fields["request"]["tcp_flags"] = True
    if not given.get("--output-netns-names"):
        del fields[""]["netns_names"]
    packets = Filter(**fields["request.filter"])
    return Options(request=Request(filter=packets, parts=parts, **fields["request"]), **fields[""])


def _shown(options: Options, **more: int) -> Shown:
    """Return what lines are to show."""
    from pwru.record.shown import Shown

    request = options.request
    return Shown({**request.parts, **more}, request.tcp_flags, request.skb_metadata, request.xdp_metadata)


def _replaying(options: Options, given: Mapping[str, Any]) -> Options:
    follow = {"follow": 0} if options.packet_id else {}
    return options._replace(shown=_shown(options, **follow), follow_recorded=given.get("--follow", True))


def _taking(options: Options, given: Mapping[str, Any], flags: Sequence[Flag]) -> Options:
    """Return the options with what the outputs take, if nobody refused it; lines show what they would without."""
    outputs = [name for name in _TAKES if given.get(name)]
    if not outputs:
        return options
    request = options.request
    refused = {flag.part for flag in flags if given.get(flag.name, flag.default) == flag.off and flag.name in given}
    taken = {part for name in outputs for part in _TAKES[name]} - refused
    taken |= {"time"} if "--output-pcap" in outputs else set()
    parts = {part: max(_TAKES[name].get(part, 0) for name in outputs) for part in taken} | dict(request.parts)
    tcp_flags = request.tcp_flags
    if any(name in _TAKE_TCP_FLAGS for name in outputs):
        tcp_flags = given.get("--output-tcp-flags", "tuple" in parts)
    rotates = any(name.startswith("--output-file-max") for name in given)
    return options._replace(
        request=request._replace(parts=parts, tcp_flags=tcp_flags),
        shown=_shown(options),
        write_rotates=rotates,
    )
