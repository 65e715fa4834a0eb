"""A live trace: attached on entering it, read in batches, gone from the kernel when it is left, whatever happens."""

from __future__ import annotations

import os
import re
import select
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from pwru.errors import PwruError
from pwru.kernel.kallsyms import KallsymsError
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.libbpf import RingBuffer
from pwru.live import loader as loading
from pwru.live.backends import BACKENDS, backend
from pwru.live.backends.child import finish
from pwru.live.backends.how import How, Refused
from pwru.live.hooks import Hooks, Unavailable, all_reasons
from pwru.live.loader import Loader
from pwru.live.modules import Modules, Running
from pwru.live.permissions import check_permitted
from pwru.live.program import Program
from pwru.live.programs import BpfPrograms
from pwru.live.request import Request, check_request
from pwru.record.account import Account

if TYPE_CHECKING:
    from pwru.filter.packet.pcap import Programs
    from pwru.live.backends.base import Backend
    from pwru.live.names import LiveNames
    from pwru.record.about import About
    from pwru.record.follow import Numbers
    from pwru.record.schema import Record, Schema

READ_SIZE = 1 << 18
# How long events may wait for others to be printed together with, in seconds. The first after a pause does not wait.
_TICK = 0.005
_STRAGGLERS = 1.0  # how long a program may still run after it was detached, in seconds
_MANY = 200  # probes that take seconds to attach one by one


class _Open(NamedTuple):
    """What a session has while it is open. `others` polls what wakes it but for events, `wake` is for stop()."""

    program: Program
    ring: RingBuffer
    others: select.epoll
    wake: int


class Session:
    """`with Session(request) as session:` traces; session.read() returns what came, until stop().

    It sets no signal handler, prints nothing, closes every descriptor that it opened, and forks only if it `may_fork`.
    It may raise this process's RLIMIT_MEMLOCK and RLIMIT_NOFILE. Every method raises PwruError if it cannot go on.
    """

    def __init__(
        self,
        request: Request,
        *,
        compiled: Callable[[], Programs] | None = None,
        hooks: Hooks = Hooks(),  # noqa: B008  (a constant)
        may_fork: bool = False,
        remember: bool = True,
        patience: float | None = None,
        image: bytes | None = None,
    ) -> None:
        """Look at what is asked for; __enter__() attaches.

        `compiled` returns the packet filter of `request`, if somebody has compiled it already. `may_fork`: child
        processes take over what would hold up the end, and what had to be removed if this process were killed.
        `remember`: use facts about this kernel from earlier starts, and keep new ones. `patience`: how long to wait in
        the kernel at once, in seconds, for callers that wake_on() does not wake. `image`: another BPF object.
        """
        check_permitted()
        check_request(request)
        if request.comm and (printed := re.fullmatch(r"([^/]+):[0-9]+", request.comm)):  # kworker/0:1 is a name
            hooks.message(f"Looking for processes named {request.comm}; without the PID, the name is {printed[1]}.")
        self._request, self._hooks, self._patience = request, hooks, patience
        with ExitStack() as cleanup:
            self._modules = cleanup.enter_context(closing(Modules(request, hooks.message)))
            self.kernel = cleanup.enter_context(closing(Kernel(request.kernel_btf, remember=remember)))
            drops = bool(request.drop_reasons)
            self.places = Places(
                self.kernel,
                request.functions,
                self._modules.chosen,
                drops=drops,
                follow=request.follow,
                without_skb=request.without_skb,
            )
            parts = request.parts
            self._how = How(request.kprobe_batch, "stack" in parts, "location" in parts, may_fork=may_fork)
            self._compiled = cache(compiled or loading.compiler(request))  # for each backend that is tried
            self._code, fields = loading.expressions(request, self.kernel)
            self._programs = BpfPrograms(request, self.kernel, hooks.message, may_fork=may_fork)
            self._loader = Loader(request, self.kernel, fields, image or loading.read_object())
            self._cleanup = cleanup.pop_all()
        # Closes a session that somebody forgot, too.
        self._finalizer = weakref.finalize(self, self._cleanup.close)
        self._reading = threading.RLock()
        self.backend: Backend
        self.names: LiveNames
        self._open: _Open | None = None
        self._entered = self._closed = self._stopped = self._detached = self._may_wait = False
        self._fresh = True
        self._deadline = 0.0
        # After so many seconds without events read() returns none; None: it waits for some.
        self.tick: float | None = None
        self.delivered = 0  # records that read() has returned
        self._full = 0  # how many were lost before those that can be read now
        self._at_limit: tuple[int, int] | None = None  # `full` and `busy` then

    @cached_property
    def numbers(self) -> Numbers:
        """What the packets that are followed are called: see Source."""
        from pwru.record.follow import LIVING_LIMIT, Numbers

        return Numbers(max(2 * self._request.follow_limit, LIVING_LIMIT))

    def lives(self, skb: int, instance: int) -> bool | None:
        """Return whether an skb has not ended: see Source."""
        known = self._request.follow and self.backend.knows_ends
        return self._opened.program.follows(skb, instance) if known else None

    @property
    def about(self) -> About:
        """What this run is: see Source."""
        size = self._opened.program.map("events").max_entries
        return loading.about(self._request, self.backend.name, size, sees_ends=self.names.sees_ends)

    @property
    def schema(self) -> Schema:
        return self._opened.program.schema

    @property
    def account(self) -> Account:
        """The numbers so far; `missed` is known once the probes are detached."""
        program = self._opened.program
        size = program.map("events").max_entries
        counters = program.counters()
        full, busy = self._at_limit or (counters.full, counters.busy)
        return Account(
            counters.hits,
            full,
            busy,
            self.backend.missed + self._programs.missed,
            size,
            sees_ends=self.names.sees_ends and self._request.ends_match,
            no_room=counters.no_room,
            no_stack=counters.no_stack,
            ends_unseen=counters.ends_unseen,
            living=frozenset(program.followed() if self._request.follow and self._detached else ()),
        )

    def __enter__(self) -> Self:
        if self._entered:
            raise PwruError("a trace is entered once: make another one")
        self._entered = True
        try:
            program = self._attach()
            for limit in self._loader.limits():
                self._hooks.message(limit)
            self._cleanup.callback(self._programs.detach)
            with self._hooks.progress() as report:
                self._programs.attach(program, self._checked(report))
            events = program.map("events")
            ring = self._cleanup.enter_context(
                closing(RingBuffer(events.fd, events.max_entries, program.schema.format))
            )
            others = self._cleanup.enter_context(select.epoll())
            wake = os.eventfd(0, os.EFD_CLOEXEC)
            self._cleanup.callback(os.close, wake)
            others.register(wake, select.EPOLLIN)
            if self._modules.watch:
                others.register(self._modules.watch.fd, select.EPOLLIN)
            ring.poll.register(others.fileno(), select.EPOLLIN)
            self.names = self.backend.names(self._loader.wire.constant("CALLER_FRAMES"), self._hooks.message)
            self.names.programs, self.names.code = self._programs.names, self._programs.code
            self._open = _Open(program, ring, others, wake)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach and release everything; may be called more than once. The account is gone then.

        A read() in another thread returns None then.
        """
        self._closed = True
        self.stop()
        with self._reading:
            self._open = None
            self._finalizer()
        finish(lambda: self._hooks.message("Removing the probes, before this container or service ends …"))

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise PwruError("the trace is not open: it is only inside its `with` block")
        return self._open

    @property
    def attaches_later(self) -> bool:
        """Whether it attaches to modules or BPF programs that come while it traces."""
        return self._modules.watch is not None or self._programs.patience is not None

    def settle(self) -> None:
        """Do what can wait until nobody waits for the start; read() does it, if it is not done yet."""
        if not self._fresh:
            return
        self._fresh = False
        self.kernel.facts.save()
        if self._modules.watch:
            self.kernel.prepare_symbols()
        if self._how.may_fork:
            self.backend.tidy()

    def try_end(self) -> None:
        """Ask the kernel for what the end of the trace will ask. Raises OSError if this process may not."""
        self._opened.program.counters()
        self.backend.try_end()

    def wake_on(self, fd: int, events: int) -> None:
        """Have read() return, with nothing, once `fd` polls with these `events` (select.EPOLLIN, 0 for an error)."""
        self._opened.others.register(fd, events)

    def stop(self) -> None:
        """Detach: nothing new comes. What came before is still to be read. May be called from a signal handler."""
        self._stopped = True
        if self._open:
            os.eventfd_write(self._open.wake, 1)

    def detach(self) -> None:
        """Detach at once; the account is final then, but for programs that still run."""
        self.stop()  # another thread may be waiting in read()
        with self._reading:
            self._programs.detach()
            self.backend.detach()
            self._detached = True

    def read(self, limit: int = 0) -> list[Record] | None:
        """Wait for events and return them; none if something else woke it, and None once all have been read.

        At most `limit` records, if it is not 0.
        """
        with self._reading:
            return None if self._closed else self._read(self._opened, limit)

    def _read(self, opened: _Open, limit: int) -> list[Record] | None:
        program, ring, *_ = opened
        self.settle()
        if self._may_wait and not self._detached:
            # More is likely to come: it is cheaper to read it all together.
            self._may_wait = False
            if self._woken(_TICK):
                return []
        while not self._closed:
            if self._stopped and not self._detached:
                self.detach()
                self._deadline = time.monotonic() + _STRAGGLERS
            if not self._detached:
                self._modules.follow(Running(self.places, self.backend, program), ring)
                self._programs.follow()
            records, pending = ring.read(READ_SIZE)
            if records:
                records = records[:limit] if limit else records
                # They are copies: their room is for those that come while they are printed.
                ring.consume(len(records))
                self.delivered += len(records)
                if limit:
                    _, full, busy, *_ = program.counters()
                    # The ring buffer had room for all that was read now: what was lost for want of it since the last
                    # time came after that, and nobody wanted it if that was the limit.
                    self._at_limit = (self._full, busy) if len(records) == limit else None
                    self._full = full
                self._may_wait = not ring.fills(len(records))
                return records  # type: ignore[return-value]  # the format is the schema's: fields of Record
            if pending:
                time.sleep(0.001)  # the kernel is writing the next record this very moment
            elif self._detached:
                # Not every link waits for running programs when it goes: one may still be writing its event.
                hits, full, busy, *_ = program.counters()
                if hits == self.delivered + full + busy or time.monotonic() > self._deadline:
                    return None
                time.sleep(0.001)
            elif ring.holds:
                ring.release()  # now the kernel will wake us; look once more for what arrived before
            else:
                waits = (self._patience, self._programs.patience, self.tick)
                ring.poll.poll(min(filter(None, waits), default=None))
                if self._woken(0) or self.tick:
                    return []
        return None

    def _woken(self, timeout: float) -> bool:
        """Return whether something but a new module woke us."""
        watched = self._modules.watch.fd if self._modules.watch else None
        woken = [fd for fd, _ in self._opened.others.poll(timeout) if fd != watched]
        if self._opened.wake in woken:
            os.eventfd_read(self._opened.wake)
        return bool(woken)

    def _checked(self, report: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            self._hooks.check()
            report(done, total)

        return progress

    def _attach(self) -> Program:
        """Attach with the first backend that this kernel lets attach, and say why better ones were refused."""
        request, hooks = self._request, self._hooks
        refused: dict[str, list[str]] = {}
        said: list[str] = []

        def say_why() -> None:
            if new := {reason: names for reason, names in refused.items() if reason not in said}:
                hooks.message(f"Not available: {all_reasons(new)}.")
                said.extend(new)

        chosen = "tracepoint" if request.drop_reasons else request.backend
        for name in (chosen,) if chosen else BACKENDS:
            self.backend = backend(name)(self.places, self._how)
            try:
                if request.by_stack and not self.backend.sees_stack:
                    raise Refused("it does not see on which stack a function runs")
                _find(self.backend, refused)
                hooks.phase(f"{name}: what to attach to")
                try:
                    image = self._loader.splice(self._code, self._compiled())
                finally:
                    hooks.check()  # what a terminal sends has ended the compiler, too
                hooks.phase("packet filter")
                program = self._attach_with(self.backend, image, say_why)
            except Refused as error:
                refused.setdefault(str(error), []).append(name)
                continue
            say_why()
            if request.follow and (unseen := self.backend.unseen_relations()):
                hooks.message(f"Following does not see here: {', '.join(unseen)}.")
            if (self._modules.chosen or self._modules.watch) and not self.backend.takes_modules:
                hooks.message("Not traced: functions of modules, since this backend traces none.")
                self._modules.close()
            return program
        raise Unavailable(refused)

    def _attach_with(self, backend: Backend, image: bytes, attaching: Callable[[], None]) -> Program:
        """Load and attach; raises Refused or PwruError, and then nothing is left of it.

        `attaching` is called once it is known to work, before all of what may take long.
        """
        hooks = self._hooks
        program = self._loader.load(image, backend, hooks.debug)
        hooks.phase(f"{backend.name}: load")

        def progress(done: int, total: int) -> None:
            hooks.check()
            if not begun:
                begun.append(True)
                attaching()
                if backend.one_by_one and total > _MANY:
                    what = f"{total} {backend.unit}s one by one ({backend.name})"
                    hooks.message(f"Attaching to {what}: that may take a minute; a narrower `functions` takes less.")
            report(done, total)

        begun: list[bool] = []

        with ExitStack() as undo, hooks.progress() as report:
            undo.callback(program.close)
            undo.callback(backend.detach)
            backend.attach(program, progress)
            backend.attached -= sum(target.silent for target in backend.by_address.values())
            self._cleanup.enter_context(undo.pop_all())
        hooks.phase(f"{backend.name}: attach")
        return program


def _find(backend: Backend, refused: dict[str, list[str]]) -> None:
    try:
        if missing := backend.unavailable():
            raise Refused(str(missing))
        backend.find()
    except KallsymsError as error:
        raise Refused(str(error)) from None
    except PwruError as error:
        # Report both: the error may follow from the refusal, e.g. a function name when only tracepoints are left.
        raise PwruError(f"{error}; {all_reasons(refused)}" if refused else str(error)) from None
