"""fentry: a BPF trampoline for each function.

Each costs a load, an update of ftrace when it comes and grace periods when it goes, so this is for few functions, and
for kernels that have nothing better for many. Each gets its own copy of one loaded template program, in which constants
describe the function (see bpf/pwru.bpf.c).

Removing a trampoline takes 36-150 ms, and removals are serialised however many threads are used. So the programs are
first told to do nothing, and a child process, if permitted, holds the links and ends, which closes them.
"""

import contextlib
import errno
import os
import resource

from pwru import libbpf
from pwru.ebpf import replace_constant
from pwru.kernel.functions import Target
from pwru.libbpf import Link
from pwru.limits import at_least
from pwru.live.backends.arg_table import role_code
from pwru.live.backends.base import Backend
from pwru.live.backends.how import Missing, ProgramSpec, Progress, Refused, reason_of, without_ftrace
from pwru.live.backends.trampoline import module_btf, split_by_trampoline, stopped
from pwru.live.program import Program
from pwru.record.layout import Wire

_PATIENCE = 16  # refused functions, none attached, after which all are taken to be refused
_MAX_ARGS = 6  # arguments that fentry_arg() in bpf/arguments.bpf.h reads
_OTHER_FILES = 16  # that are opened later


class Fentry(Backend):
    name = "fentry"
    program = ProgramSpec("on_fentry", libbpf.BPF_PROG_TYPE_TRACING, libbpf.BPF_TRACE_FENTRY)
    one_by_one = True

    def unavailable(self) -> Missing | None:
        if not self.kernel.has_attach_type("BPF_TRACE_FENTRY"):
            return Missing("this kernel is older than BPF trampolines", "5.5", "fec56f5890d9")
        return without_ftrace()

    def attach(self, program: Program, progress: Progress) -> None:
        targets, self.left_out = split_by_trampoline(self.kernel, self.places.functions)
        self._program = program
        self._attach(program, targets, progress)
        self.attached = len(self.links)
        if not self.links:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")

    def attach_more(self, program: Program, targets: list[Target]) -> int:
        targets, _ = split_by_trampoline(self.kernel, targets)
        before = len(self.links)
        self._attach(program, targets, lambda _done, _total: None)
        return len(self.links) - before

    def _attach(self, program: Program, targets: list[Target], progress: Progress) -> None:
        _raise_open_files(len(targets))
        template, self._wire = program.insns(), program.wire
        with contextlib.ExitStack() as opened:
            btfs: dict[str | None, int] = {}
            for number, target in enumerate(targets):
                try:
                    if target.module not in btfs:
                        btfs[target.module] = opened.enter_context(module_btf(target.module))
                    # Before its first event.
                    self.by_address[target.address] = target
                    self.links.append(self._link(template, target, btfs[target.module]))
                except OSError as error:
                    self.skipped.append((target.name, reason_of(error)))
                    if error.errno == errno.EPERM or (not self.links and number == _PATIENCE):
                        raise Refused(f"attaching is refused ({reason_of(error)})") from None
                progress(number + 1, len(targets))

    def _link(self, template: bytes, target: Target, btf_fd: int) -> Link:
        insns = specialize(self._wire, template, target)
        with self.copied(insns, btf_id=target.btf_id, btf_fd=btf_fd) as fd:
            return libbpf.link_fentry(fd)

    def detach(self) -> None:
        """Stop the programs and close the links; a child process does the waiting, if it is permitted."""
        if self.links:
            with stopped(self._program, self.links, may_fork=self.how.may_fork):
                super().detach()


def _raise_open_files(functions: int) -> None:
    """Raise RLIMIT_NOFILE as far as needed. Raises Refused if that is impossible."""
    files = len(os.listdir("/proc/self/fd")) + 2 * functions + _OTHER_FILES
    if not at_least(resource.RLIMIT_NOFILE, files):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        raise Refused(
            f"{functions} functions take two open files each, of which {hard} are allowed;"
            f" `ulimit -n {files}` in a root shell, or a narrower `functions`, helps"
        )


def specialize(wire: Wire, template: bytes, target: Target) -> bytes:
    """Return the template's instructions with the constants of this function: FENTRY_TEMPLATE in bpf/pwru.bpf.c."""
    reason = target.reason_arg - 1 if target.has_reason else wire.constant("NO_ARG")
    sock = target.sock_arg - 1 if 0 < target.sock_arg <= _MAX_ARGS else wire.constant("NO_ARG")
    args = target.skb_arg - 1 | reason << 4 | sock << 12
    args |= wire.constant("FENTRY_POINTER") if target.double_pointer else 0
    if target.role:
        second = wire.constant(target.role) >= wire.constant("ROLE_SECOND")
        args = args & ~15 | second | role_code(wire, target.role, silent=target.silent) << 32
    insns = replace_constant(template, wire.constant("FENTRY_TEMPLATE"), args)
    return replace_constant(insns, wire.constant("FENTRY_ADDRESS"), target.address)
