"""Options from the command line, and the rules between flags."""

from collections.abc import Mapping, Sequence
from typing import Any

from pwru.cli.flags import FLAGS, Flag, Kind
from pwru.cli.parser import Parser
from pwru.commands.options import Options
from pwru.filter.packet import Filter
from pwru.live.request import Request

_PROGRAMS = ("--filter-trace-tc", "--filter-trace-xdp")
# They ask for more than where packets are dropped.
_NOT_OF_DROPS = (
    "--filter-track-bpf-helpers",
    *("--filter-non-skb-funcs", "--filter-track-skb-by-stackid", "--follow", "--filter-func", "--kmods", "--all-kmods"),
    *_PROGRAMS,
)
# The backends that see on which stack a function runs.
_SEE_STACKS = ("kprobe-multi", "kprobe")
# A flag that makes no sense without another one turns it on: scripts for the Go tool know it so.
_TURNS_ON = {
    "--filter-non-skb-funcs": "--filter-track-skb-by-stackid",
    "--filter-track-bpf-helpers": "--filter-track-skb-by-stackid",
    "--filter-track-skb-by-stackid": "--follow",
}


def parse(arguments: Sequence[str], flags: Sequence[Flag] = FLAGS) -> Options:
    """Leaves the process with status 2 and a line on stderr if the command line is wrong."""
    parser = Parser(flags)
    given = parser.given(arguments)
    _turn_on(given, parser)
    _check(given, parser)
    return _options(given, flags)


def _turn_on(given: dict[str, Any], parser: Parser) -> None:
    for name, other in _TURNS_ON.items():
        if given.get(name) and not given.setdefault(other, True):
            parser.error(f"{name} requires {other}")
    if given.get("--filter-track-bpf-helpers") and not any(given.get(name) for name in _PROGRAMS):
        for name in _PROGRAMS:
            if not given.setdefault(name, True):
                parser.error(f"--filter-track-bpf-helpers requires {' or '.join(_PROGRAMS)}")


def _check(given: Mapping[str, Any], parser: Parser) -> None:
    for name in given:
        if name.startswith("--output-file-") and "--output-file" not in given:
            parser.error(f"{name} requires --output-file")
    if not given.get("--follow"):
        for name in ("--follow-packets", "--output-packet-id"):
            if given.get(name):
                parser.error(f"{name} requires --follow")
    if (backend := given.get("--backend")) and backend not in _SEE_STACKS:
        for name in _TURNS_ON:
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
    if not given.get("--output-netns-names"):
        del fields[""]["netns_names"]
    packets = Filter(**fields["request.filter"])
    return Options(request=Request(filter=packets, parts=parts, **fields["request"]), **fields[""])
