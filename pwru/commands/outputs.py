"""Where the events of a run go: the sinks that its options ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pwru.sinks.lines import Format, Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.terminal import terminal

if TYPE_CHECKING:
    from pwru.commands.options import Options
    from pwru.sinks import Sink
    from pwru.sinks.rotate import File

Say = Callable[[str], None]


def make_sink(options: Options, say: Say) -> Sink:
    """Return where events go. Raises PwruError if nothing can be written there."""
    sinks: list[Sink] = [_lines(options, say)]
    if len(sinks) == 1:
        return sinks[0]
    from pwru.sinks.tee import Tee

    return Tee(sinks)


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
    return Lines(form, stream, style)


def _file(path: str, options: Options, say: Say) -> File:
    """Return a file that gives way to new ones as the options say."""
    from pwru.sinks.rotate import Backups, File

    backups = Backups(
        path,
        max_days=options.output_file_max_age,
        max_count=options.output_file_max_backups,
        compress=options.output_file_compress,
        on_message=say,
    )
    return File(path, options.output_file_max_size << 20, backups)
