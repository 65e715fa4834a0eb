"""`pwru FILTER`: trace this kernel and print what comes."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwru.commands.messages import Phases, Progress
from pwru.commands.outputs import make_sink
from pwru.commands.stop import Stop
from pwru.errors import PwruError, abbreviate
from pwru.kernel.netns import unseen
from pwru.live.hooks import Hooks
from pwru.live.permissions import check_permitted
from pwru.live.privileges import acting_as, find_user, give_up
from pwru.live.session import Session

if TYPE_CHECKING:
    from pwru.commands.options import Options
    from pwru.filter.packet.pcap import Compiler
    from pwru.sinks import Sink

Say = Callable[[str], None]


class End(NamedTuple):
    """How a trace ended: whether nothing was lost, and the exit status of a signal that is not an ordinary end."""

    complete: bool
    status: int = 0


def trace(options: Options, say: Say, compiler: Compiler | None = None) -> End:
    """Trace until a signal, the line limit or the reader's exit, and print the account.

    `compiler` is at work on the packet filter. Raises PwruError if it cannot begin or go on.
    """
    phases = Phases(options.debug, say)
    check_permitted()  # before anything that the lack of it makes fail, too
    user = find_user(options.user) if options.user is not None else None
    with contextlib.ExitStack() as cleanup:
        with acting_as(user):
            sink = make_sink(options, say)
            cleanup.callback(sink.close)
            _check_ready_file(options.ready_file)
        stop = cleanup.enter_context(Stop())
        cleanup.callback(sink.close)  # before the handlers go: another signal ends the wait for compression

        def progress() -> contextlib.closing[Progress]:
            return contextlib.closing(Progress("Attaching", say))

        def compiling() -> None:
            say("libpcap is still compiling the filter; net and portrange make a long one shorter.")

        compiled = partial(compiler.programs, stop.fd, compiling) if compiler else None
        hooks = Hooks(say, say if options.debug else None, phases.done, progress, stop.check)
        session = Session(options.request, compiled=compiled, hooks=hooks, may_fork=True)
        cleanup.enter_context(session)
        kept = give_up(session, user, creates_files=options.creates_files)
        if options.debug:
            say(f"debug: capabilities that are kept: {', '.join(kept) or 'none'}")
        sink.open()
        sink.give_up_after(stop.fd)
        _announce(options, session, say)
        sink.begin(session)
        stop.reopens = options.reopens
        reader_gone = _pump(session, sink, stop, options.limit)
        sink.ending()
        session.detach()
        sink.flush()
        phases.done("trace and detach")
        at_limit = sink.events == options.limit > 0
        account = session.account._replace(
            events=sink.events,
            packets=sink.packets,
            at_limit=at_limit,
            reader_gone=reader_gone,
            unwritable=sink.failure is not None,
        )
        if options.request.follow:
            account = account._replace(follow_limit=options.request.follow_limit, not_followed=sink.not_followed)
        sink.finish(account)
        say(sink.account(account))
        if sink.failure:
            raise sink.failure
        return End(account.complete, stop.status)


def _pump(session: Session, sink: Sink, stop: Stop, limit: int) -> bool:
    """Pass events on until the end; return whether it ended because the reader of the output has gone."""
    session.tick = sink.tick
    session.wake_on(stop.fd, select.EPOLLIN)
    session.wake_on(stop.reopen_fd, select.EPOLLIN)
    reader = select.poll()
    if sink.reader is not None:
        # Regular files cannot be polled; they have no reader to lose, and give way to others.
        with contextlib.suppress(PermissionError):
            session.wake_on(sink.reader, 0)  # errors are always told
            reader.register(sink.reader, 0)
    due = time.monotonic() + (sink.tick or 0)
    while True:
        if sink.tick and time.monotonic() >= due:
            sink.idle()
            if sink.failure:
                return False
            due = time.monotonic() + sink.tick
        if stop.asked:
            sink.ending()
            session.stop()
        if stop.reopen_asked():
            sink.reopen()
        records = session.read(limit - sink.events if limit else 0)
        if records is None:
            return False
        if records and sink.write(records):
            return bool(reader.poll(0))
        if records and sink.events == limit:
            return False
        if not records and reader.poll(0):
            return True


def _check_ready_file(path: str | None) -> None:
    """Check early that the file can be created: it is created only once everything is attached, and somebody waits."""
    if path is None:
        return
    if problem := _not_creatable(path):
        raise PwruError(f"`ready_file`: cannot create {path or repr('')}: {os.strerror(problem)}")
    try:
        os.unlink(path)  # of an earlier trace: it would say now that this one is ready
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PwruError(f"`ready_file`: cannot remove {path}: {error.strerror}") from None


def _not_creatable(path: str) -> int:
    """Return the number of the error that stands in the way, or 0."""
    folder = os.path.dirname(path) or "."
    try:
        links = os.stat(os.path.join(folder, "")).st_nlink
    except OSError as error:
        return error.errno or errno.ENOENT
    if os.path.isdir(path):
        return errno.EISDIR
    if os.path.exists(path) and not os.path.isfile(path):  # nobody would see a pipe or a device become ready
        return errno.EEXIST
    if not path or not links:  # the folder was removed
        return errno.ENOENT
    return 0 if os.access(folder, os.W_OK, effective_ids=True) else errno.EACCES


def _announce(options: Options, session: Session, say: Say) -> None:
    backend, places = session.backend, session.places
    if empty := [module for module in places.empty_modules if module in options.request.modules]:
        say(f"Not traced: functions of {abbreviate(empty)}: none has an skb argument that can be read.")
    if options.request.netns and unseen(options.request.netns):
        say(f"No process that can be seen is in network namespace {options.request.netns}, and it has no name.")
    units = backend.unit + "s" * (backend.attached != 1)
    skipped = sorted(name for name, _ in backend.skipped)
    refused = f"; {len(skipped)} refused by the kernel: {abbreviate(skipped)}" if skipped else ""
    say(f"Attached to {backend.attached} {units} ({backend.name}){refused}.")
    if options.timestamp == "relative" and not (session.names.sees_ends or options.request.follow):
        hint = "" if options.request.functions is None else "; let `functions` match skb_release_head_state, too"
        say(f"Relative times may be since an earlier packet in the same skb, as not every end is traced{hint}.")
    if options.debug:
        for cause, names in (places.left_out | backend.left_out).items():
            say(f"debug: {len(names)} functions are left out: {cause}")
        for name, reason in backend.skipped:
            say(f"debug: not attached: {name}: {reason}")
    if options.ready_file:
        try:
            Path(options.ready_file).touch()
        except OSError as error:
            raise PwruError(f"`ready_file`: cannot create {options.ready_file}: {error.strerror}") from None
    say("Listening for events..")
