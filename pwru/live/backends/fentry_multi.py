"""fentry-multi: one BPF link for the entries of all functions, through trampolines instead of kprobes.

Since v7.2 (BPF_TRACE_FENTRY_MULTI). A hit costs the same as with kprobe-multi, attaching and detaching a little more,
so this is for kernels with ftrace and without CONFIG_FPROBE. A program is for vmlinux or for one module: each module
gets a copy.
"""

import os

from pwru import libbpf
from pwru.kernel.functions import Target
from pwru.live.backends.arg_table import load_args
from pwru.live.backends.base import SharedProgram
from pwru.live.backends.how import Missing, ProgramSpec, Progress, Refused, reason_of, without_ftrace
from pwru.live.backends.trampoline import module_btf, split_by_trampoline
from pwru.live.program import Program


class FentryMulti(SharedProgram):
    name = "fentry-multi"
    program = ProgramSpec("on_fentry_multi", libbpf.BPF_PROG_TYPE_TRACING, libbpf.BPF_TRACE_FENTRY_MULTI, set_type=True)

    def unavailable(self) -> Missing | None:
        if not self.kernel.has_attach_type("BPF_TRACE_FENTRY_MULTI"):
            return Missing("this kernel is older than fentry-multi links", "7.2")
        if missing := without_ftrace():
            return missing
        return self.probe_link("tracing", lambda fd: libbpf.link_fentry_multi(fd, []))

    def attach(self, program: Program, progress: Progress) -> None:
        targets, self.left_out = split_by_trampoline(self.kernel, self.places.functions)
        self.by_address = {target.address: target for target in targets}
        load_args(program, self.by_address)
        self._link(program.fd, [target for target in targets if target.module is None])
        self.link_copy(program.insns(), [target for target in targets if target.module is not None])
        if not self.links:
            raise Refused(self.skipped[0][1])
        self.attached = len(targets) - len(self.skipped)

    def admit(self, targets: list[Target]) -> dict[int, Target]:
        targets, _ = split_by_trampoline(self.kernel, targets)
        return {target.address: target for target in targets}

    def link_copy(self, insns: bytes, targets: list[Target]) -> None:
        for module in sorted({target.module or "" for target in targets}):
            of_module = [target for target in targets if target.module == module]
            try:
                with module_btf(module) as btf_fd:
                    fd = self.load_copy(insns, btf_fd=btf_fd)
            except OSError as error:
                self.skipped += [(target.name, f"its module: {reason_of(error)}") for target in of_module]
                continue
            try:
                self._link(fd, of_module)
            finally:
                os.close(fd)  # the link holds the program

    def _link(self, prog_fd: int, targets: list[Target]) -> None:
        if targets:
            self.link_many(lambda part: libbpf.link_fentry_multi(prog_fd, [target.btf_id for target in part]), targets)
