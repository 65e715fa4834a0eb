"""`pwru -r FILE`: print, or write again, what was recorded."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pwru.commands.outputs import make_sink
from pwru.commands.stop import Stop
from pwru.commands.trace import End
from pwru.errors import PwruError
from pwru.replay.moments import Span
from pwru.replay.source import Replay
from pwru.replay.wanted import Wanted
from pwru.sinks.counting import PacketCount

if TYPE_CHECKING:
    from pwru.commands.options import Options
    from pwru.events.selected import Selected
    from pwru.record.schema import Record
    from pwru.sinks import Sink

Say = Callable[[str], None]


def replay(options: Options, say: Say) -> End:
    """Print what is wanted of a recording, and its account. Raises PwruError if it is none, or where it is damaged."""
    assert options.read is not None
    with contextlib.ExitStack() as cleanup:
        source = cleanup.enter_context(contextlib.closing(Replay([options.read])))
        wanted = _wanted(options)
        test = None
        if wanted.filter:
            from pwru.replay.packets import packet_test

            test = packet_test(wanted.filter)
        batches = source.read(wanted, test)  # first: it says what was not recorded
        _check_outputs(options, source)
        sink = make_sink(options, say)
        cleanup.callback(sink.close)
        stop = cleanup.enter_context(Stop())
        say(_reading(source))
        sink.open()
        sink.give_up_after(stop.fd)
        sink.begin(source)
        count = PacketCount(source)  # by number, though lines may not show it
        if sink.takes_columns and not options.limit:
            delivered, reader_gone = _pump_columns(source.columns(wanted, test), sink, stop), False
        else:
            delivered, reader_gone = _pump(batches, sink, stop, options.limit, count)
        sink.ending()
        sink.flush()
        account = source.account_of(delivered)._replace(
            events=sink.events,
            packets=count.packets or sink.packets,
            at_limit=sink.events == options.limit > 0,
            reader_gone=reader_gone,
            unwritable=sink.failure is not None,
        )
        sink.finish(account)
        say(sink.account(account))
        if problem := sink.failure or source.damage:
            raise problem
        return End(account.complete, stop.status)


def _check_outputs(options: Options, source: Replay) -> None:
    outputs = {"write": options.write, "output_file": options.output_file, "output_pcap": options.output_pcap}
    for name, path in (outputs | {"report": options.report, "output_parquet": options.output_parquet}).items():
        if path is not None and source.reads(path):
            raise PwruError(f"`{name}`: {path} is the recording that is read; name another file")


def _reading(source: Replay) -> str:
    """Return what is read, and by which command on which kernel it was recorded."""
    release, _, machine = source.about.kernel
    command = shlex.join(["pwru", *source.about.command])
    return f"Reading {source.name}, recorded on Linux {release} ({machine}): {command}"


def _pump(batches: Iterator[list[Record]], sink: Sink, stop: Stop, limit: int, count: PacketCount) -> tuple[int, bool]:
    """Pass events on until the end; return how many, and whether nobody takes them any longer."""
    delivered = 0
    for batch in batches:
        records = batch[: limit - sink.events] if limit else batch
        delivered += len(records)
        count.see(records)
        if records and sink.write(records):
            return delivered, True
        if stop.asked or (limit and sink.events >= limit):
            break
    return delivered, False


def _pump_columns(chunks: Iterator[Selected], sink: Sink, stop: Stop) -> int:
    """Pass events on as columns until the end; return how many."""
    delivered = 0
    for selected in chunks:
        delivered += selected.events
        if sink.write_columns(selected) or stop.asked:
            break
    return delivered


def _wanted(options: Options) -> Wanted:
    request = options.request
    return Wanted(
        filter=request.filter,
        netns=request.netns,
        ifname=request.ifname,
        mark=request.mark,
        mark_mask=request.mark_mask,
        skb_expr=request.skb_expr,
        pid=request.pid,
        comm=request.comm,
        follow=options.follow_recorded,
        packets=frozenset(options.packets),
        functions=request.functions,
        drop_reasons=request.drop_reasons,
        span=options.span or Span(),
    )
