"""The BPF programs that see packets: traced at their entry and exit, in addition to the functions of a run.

Each gets a BPF trampoline, whatever the backend. Each program has two copies of a template (on_program() in
bpf/pwru.bpf.c), in which constants describe it. A link keeps the traced program in the kernel, even after its owner has
removed it, until the trace ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pwru import libbpf
from pwru.ebpf import LOAD_SIXTH_WORD, replace_constant
from pwru.errors import abbreviate, printable
from pwru.kernel.bpf_programs import EXT, KINDS, Kind, kind_of, main_function
from pwru.kernel.btf import Btf, BtfError
from pwru.libbpf import Link
from pwru.limits import at_least
from pwru.live import helpers, rlimits
from pwru.live.backends.base import close_all, programs_missed
from pwru.live.backends.how import reason_of
from pwru.live.backends.trampoline import stopped
from pwru.live.helpers import Helpers
from pwru.live.names import Code, SeenHelper, SeenProgram
from pwru.live.program import variant

if TYPE_CHECKING:
    from pwru.kernel.kernel import Kernel
    from pwru.libbpf.programs import ProgramInfo
    from pwru.live.program import Program
    from pwru.live.request import Request

# The template in bpf/pwru.bpf.c, by whether the packets are those of XDP.
_TEMPLATES = {False: "on_program", True: "on_xdp"}
# How often it is looked for new programs, in seconds. That takes one system call.
INTERVAL = 0.1
_ID_SHIFT = 32  # of its number in events: neither the number of a tracepoint nor the address of a function
_FILES = 4  # that a traced program takes
_REST = 64  # files that are opened otherwise
# Arguments in the context of what traces a program: its own, or, where the kernel does not trust what the program's BTF
# says of that, all that a program could have (btf_distill_func_proto()).
_ONE, _ALL = 1, 5


def templates(request: Request) -> tuple[str, ...]:
    """Return the programs of the object that have to be loaded for it."""
    wanted = {False: request.trace_tc, True: request.trace_xdp}
    names = (variant(name, following=request.follow) for is_xdp, name in _TEMPLATES.items() if wanted[is_xdp])
    return (*names, *([helpers.TEMPLATE] if request.trace_helpers else []))


class NotTraced(Exception):
    """Why a program cannot be traced."""


class _Refused(Exception):
    """This kernel lets no program be traced; the message says why."""


class _Found(NamedTuple):
    info: ProgramInfo
    name: str
    kind: Kind


class BpfPrograms:
    """The BPF programs of one run. Nothing here ends a trace: what cannot be traced is said, once."""

    def __init__(self, request: Request, kernel: Kernel, message: Callable[[str], None], *, may_fork: bool) -> None:
        self._following = request.follow
        self._templates = templates(request)
        self._wanted = bool(self._templates)
        self._kernel = kernel
        self._message = message
        self._may_fork = may_fork
        self._links: list[Link] = []
        self._last = 0  # the id of the last program that was looked at
        self._next_look = 0.0
        self._said: set[tuple[str, str]] = set()
        self._ids: dict[int, str] = {}
        self.missed = 0
        self.names: dict[int, SeenProgram | SeenHelper] = {}
        self.code: list[Code] = []
        self._helpers = Helpers(kernel, message, self.names) if request.trace_helpers else None
        self._insns: list[bytes] = []  # of new programs

    @property
    def patience(self) -> float | None:
        """How long may be waited for events before the next follow(), in seconds; None: for ever."""
        return INTERVAL if self._wanted else None

    def attach(self, program: Program, progress: Callable[[int, int], None]) -> None:
        """Attach to the programs that are loaded now."""
        if not self._wanted:
            return
        self._program = program
        if self._helpers and not self._helpers.prepare(program):
            self._helpers = None
        names = self._look(progress)
        if not self._wanted:
            return
        if names:
            self._message(f"Attached to {len(names)} BPF program{'s' * (len(names) != 1)}: {abbreviate(names)}.")
        else:
            self._message("Attached to no BPF program yet: to those that are loaded later.")
        self._tell_tail_calls()

    def follow(self) -> None:
        """Attach to programs that have come since, if it is time to look."""
        if self._wanted and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + INTERVAL
            if names := self._look(lambda _done, _total: None):
                self._message(f"Attached to BPF program{'s' * (len(names) != 1)} {abbreviate(names)}.")

    def detach(self) -> None:
        """Detach; a child process does the waiting, if it is permitted. May be called more than once."""
        self._wanted = False
        if not self._links:
            return
        links = self._links + (self._helpers.links if self._helpers else [])
        with stopped(self._program, links, may_fork=self._may_fork):
            self.missed += programs_missed(links)
            close_all(links)
            self._links, self._helpers = [], None

    def _look(self, report: Callable[[int, int], None]) -> list[str]:
        """Attach to what was not looked at yet; return the names. Gives up if that is refused to all programs."""
        from pwru.libbpf import programs

        names: list[str] = []
        refused: dict[str, list[str]] = {}
        try:
            new = programs.program_ids(self._last)
            for done, prog_id in enumerate(new, 1):
                self._last = prog_id
                self._attach(prog_id, names, refused)
                report(done, len(new))
        except (_Refused, OSError) as error:
            reason = str(error) if isinstance(error, _Refused) else _explain(error)
            self._wanted = False
            self._message(f"Not traced: BPF programs: {reason}.")
        if self._helpers and self._insns:
            self._helpers.attach(self._insns)
            self._insns = []
        for reason, of in refused.items():
            new_names = [name for name in dict.fromkeys(of) if (name, reason) not in self._said]
            self._said.update((name, reason) for name in new_names)
            if new_names:
                self._message(
                    f"Not traced: BPF program{'s' * (len(new_names) != 1)} {abbreviate(new_names)}: {reason}."
                )
        return names

    def _attach(self, prog_id: int, names: list[str], refused: dict[str, list[str]]) -> None:
        from pwru.libbpf import programs

        name = str(prog_id)
        try:
            with programs.program(prog_id) as fd:
                if not self._may_be_wanted(programs.program_type(fd)):
                    return
                info = programs.program_info(fd)
                name = printable(info.name) or name
                if self._helpers:  # whether it can be traced or is called by one that can
                    self._insns.append(programs.instructions(fd))
                if (found := _examine(info)) is None or not self._is_wanted(found.kind):
                    return
                name = found.name
                label = f"{name}({found.kind.label})"
                self.code += [Code(start, start + size, label) for start, size in info.code]
                self._trace(fd, found)
        except NotTraced as error:
            refused.setdefault(str(error), []).append(name)
        except OSError as error:
            if error.errno == errno.ENOENT and not self._exists(prog_id):
                return
            if error.errno in (errno.EPERM, errno.EACCES):
                raise _Refused(f"attaching is refused ({reason_of(error)})") from None
            refused.setdefault(_explain(error), []).append(name)
        else:
            names.append(name)

    def _may_be_wanted(self, prog_type: int) -> bool:
        return prog_type == EXT or (prog_type in KINDS and self._is_wanted(KINDS[prog_type]))

    def _is_wanted(self, kind: Kind) -> bool:
        return self._template(kind) in self._templates

    def _template(self, kind: Kind) -> str:
        return variant(_TEMPLATES[kind.xdp], following=self._following)

    def _exists(self, prog_id: int) -> bool:
        from pwru.libbpf import programs

        return prog_id in programs.program_ids(prog_id - 1)[:1]

    def _trace(self, fd: int, found: _Found) -> None:
        wire, template = self._program.wire, self._program.insns(self._template(found.kind))
        at_least(resource.RLIMIT_NOFILE, len(self._links) * 2 + _FILES + _REST)
        self._ids[found.info.id] = found.name
        words = self._words(fd, found.info)
        links = []
        try:
            for at_exit in (False, True):
                number = found.info.id << _ID_SHIFT | at_exit
                args = words << 8 | (words if at_exit else wire.constant("NO_ARG"))
                args |= wire.constant("PROGRAM_NETFILTER") if found.kind.skb_in_context else 0
                insns = replace_constant(template, wire.constant("PROGRAM_TEMPLATE"), args)
                insns = replace_constant(insns, wire.constant("PROGRAM_NUMBER"), number)
                insns = replace_constant(insns, wire.constant("PROGRAM_CODE"), found.info.address)
                self.names[number] = SeenProgram(found.name, found.kind, at_exit)  # before its first event
                with self._loaded(insns, fd, found.info, at_exit=at_exit) as prog_fd:
                    links.append(libbpf.link_fentry(prog_fd))
        except BaseException:
            close_all(links)
            raise
        self._links += links

    def _words(self, fd: int, info: ProgramInfo) -> int:
        """Return how many words of the context are arguments; the verdict is the next one."""
        try:
            with self._loaded(LOAD_SIXTH_WORD, fd, info, at_exit=True):
                return _ALL
        except OSError:
            return _ONE

    @contextlib.contextmanager
    def _loaded(self, insns: bytes, fd: int, info: ProgramInfo, *, at_exit: bool) -> Iterator[int]:
        prog_fd = rlimits.with_memlock(
            self._kernel,
            lambda: libbpf.prog_load(
                libbpf.BPF_PROG_TYPE_TRACING,
                insns,
                expected_attach_type=libbpf.BPF_TRACE_FEXIT if at_exit else libbpf.BPF_TRACE_FENTRY,
                attach_btf_id=info.main,
                attach_prog_fd=fd,
            ),
        )
        try:
            yield prog_fd
        finally:
            os.close(prog_fd)

    def _tell_tail_calls(self) -> None:
        """Say which programs are reached by tail calls: these jump over where a trampoline is called from."""
        from pwru.libbpf import programs

        with contextlib.suppress(OSError):
            called = programs.in_program_arrays()
            names = sorted({name for prog_id, name in self._ids.items() if prog_id in called})
            if names:
                self._message(
                    f"Not traced where a tail call leads to them, which the kernel hides: {abbreviate(names)};"
                    " the program that was called first tells their verdict."
                )


def _examine(info: ProgramInfo) -> _Found | None:
    """Return the name and the kind; None for what sees no packet. Raises NotTraced."""
    if not info.btf or not info.main:
        if info.prog_type == EXT:
            return None
        raise NotTraced("loaded without BTF")
    try:
        name, context = main_function(Btf(info.btf), info.main)
    except BtfError as error:
        raise NotTraced(str(error)) from None
    kind = kind_of(info.prog_type, context)
    if kind is None:
        return None
    if not info.jited:
        raise NotTraced("interpreted, as net.core.bpf_jit_enable is 0")
    return _Found(info, name, kind)


def _explain(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "to look at them takes CAP_SYS_ADMIN"
    if error.errno == errno.EBUSY:
        return "another program replaces it (freplace), or too many trace it"
    return reason_of(error)
