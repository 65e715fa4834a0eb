"""Where the events of a run go: the sinks that its options ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from pwru.errors import PwruError
from pwru.sinks.lines import Format, Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.terminal import terminal

if TYPE_CHECKING:
    from pwru.commands.options import Options
    from pwru.sinks import Sink
    from pwru.sinks.rotate import File

Say = Callable[[str], None]
STDOUT = "-"


def make_sink(options: Options, say: Say) -> Sink:
    """Return where events go. Raises PwruError if nothing can be written there."""
    sinks: list[Sink] = []
    if options.write is not None:
        sinks.append(_recorder(options.write, options, say))
    if options.output_pcap is not None:
        sinks.append(_pcapng(options.output_pcap, options, say))
    if options.report is not None:
        from pwru.sinks.report import Report

        sinks.append(Report(options.report, json=options.json, command=options.command))
    if options.output_parquet is not None:
        from pwru.sinks.parquet import ParquetFile

        sinks.append(ParquetFile(options.output_parquet, json=options.json))
    if options.summary:
        sinks.append(_summary(options))
    both = options.group and options.summary
    if options.print or both or options.output_file is not None or not sinks:
        sinks.insert(0, _lines(options, say))
    sink = sinks[0]
    if len(sinks) > 1:
        from pwru.sinks.tee import Tee

        sink = Tee(sinks)
    if options.only:
        from pwru.record.wrong import parse
        from pwru.sinks.only import Only

        sink = Only(sink, parse(options.only))
    return sink


def _lines(options: Options, say: Say) -> Sink:
    form: type[Format]
    if options.json:
        from pwru.sinks.json import Json as form
    else:
        from pwru.sinks.text import Text as form
    color, width = terminal(1 if options.output_file is None else None, options.color)
    style = LineStyle(
        timestamp=options.timestamp,
        netns_names=options.netns_names,
        caller=options.caller,
        color=color,
        width=width,
        packet_id=options.packet_id,
    )
    stream = Stream() if options.output_file is None else _file(options.output_file, options, say)
    if options.group:
        return _group(options, stream, style)
    return Lines(form, stream, style, options.shown)


def _group(options: Options, stream: Stream, style: LineStyle) -> Sink:
    from pwru.sinks.group import Form, Group

    form: type[Form]
    if options.json:
        from pwru.sinks.packet_json import PacketJson as form
    elif options.stages:
        from pwru.sinks.staged import StagedBlocks as form
    else:
        from pwru.sinks.blocks import Blocks as form
    return Group(form, stream, style, options.shown)


def _summary(options: Options) -> Sink:
    from pwru.sinks.summary import Summarize

    live = not (options.print or options.group) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"
    return Summarize(Stream(), json=options.json, live=live)


def _recorder(path: str, options: Options, say: Say) -> Sink:
    from pwru.sinks.record import Recorder

    stream = Stream(whole=True) if path == STDOUT else _file(path, options, say, whole=True, parameter="write")
    return Recorder(stream, json=options.json, command=options.command)


def _pcapng(path: str, options: Options, say: Say) -> Sink:
    from pwru.sinks.pcapng import Pcapng

    stream = Stream(whole=True) if path == STDOUT else _file(path, options, say, whole=True, parameter="output_pcap")
    return Pcapng(stream, json=options.json, command=options.command, every=options.output_pcap_all)


def _file(path: str, options: Options, say: Say, *, whole: bool = False, parameter: str = "output_file") -> File:
    """Return a file that gives way to new ones as the options say, if they do."""
    from pwru.sinks.rotate import Backups, File

    try:
        backups = Backups(
            path,
            max_days=options.output_file_max_age,
            max_count=options.output_file_max_backups,
            compress=options.output_file_compress and not whole,
            on_message=say,
        )
    except OSError as error:
        raise PwruError(f"`{parameter}`: cannot write {path}: {error.strerror}") from None
    most = options.output_file_max_size << 20 if options.write_rotates or not whole else sys.maxsize
    return File(path, most, backups, whole=whole, parameter=parameter)
