"""Options from the command line, and the rules between flags."""

from collections.abc import Mapping, Sequence
from typing import Any

from pwru.cli.flags import FLAGS, Flag, Kind
from pwru.cli.parser import Parser
from pwru.commands.options import Options
from pwru.filter.packet import Filter
from pwru.live.request import Request


def parse(arguments: Sequence[str], flags: Sequence[Flag] = FLAGS) -> Options:
    """Leaves the process with status 2 and a line on stderr if the command line is wrong."""
    parser = Parser(flags)
    given = parser.given(arguments)
    _check(given, parser)
    return _options(given, flags)


def _check(given: Mapping[str, Any], parser: Parser) -> None:
    for name in given:
        if name.startswith("--output-file-") and "--output-file" not in given:
            parser.error(f"{name} requires --output-file")
    if not given.get("--all-kprobes", True):
        parser.error("--all-kprobes=false: name the functions that are wanted with --filter-func")
    if "--filter-drop-reason" in given:
        if given.get("--backend", "tracepoint") != "tracepoint":
            parser.error("--filter-drop-reason works only with --backend tracepoint")
        if any(given.get(name) for name in ("--filter-func", "--kmods", "--all-kmods")):
            parser.error("--filter-drop-reason works only without --filter-func, --kmods and --all-kmods")
    if given.get("--output-netns-names") and not given.get("--output-meta", True):
        parser.error("--output-netns-names names what --output-meta=false leaves out")
    if fields := given.get("--output-skb-metadata"):
        from pwru.live.loader import object_wire

        if len(fields) > (most := object_wire().constant("MAX_VALUES")):
            parser.error(f"--output-skb-metadata: {len(fields)} fields; up to {most} can be printed")
        if len(set(fields)) < len(fields):
            parser.error(f"--output-skb-metadata: a field is there twice: {', '.join(fields)}")


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
