"""fentry-multi: one BPF link for the entries of all functions, through trampolines instead of kprobes.

Since v7.2 (BPF_TRACE_FENTRY_MULTI). A hit costs what it costs with kprobe-multi, attaching and detaching a little more,
so this is for kernels with ftrace and without CONFIG_FPROBE. A program is for vmlinux or for one module: each module
gets a copy of it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.probes import Probes, Progress, Refused, link_many, why
from pwru.probes.positions import fill
from pwru.probes.trampoline import module_btf, split

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object

# r0 = 0; exit
_NOTHING = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))


class Backend(Probes):
    name = "fentry-multi"
    program = "on_fentry_multi"
    kind = libbpf.BPF_PROG_TYPE_TRACING, libbpf.BPF_TRACE_FENTRY_MULTI

    def unavailable(self) -> str | None:
        if not self.sites.has_attach_type("BPF_TRACE_FENTRY_MULTI"):
            return "this kernel is older than fentry-multi links (Linux 7.2)"
        try:
            fd = self._load(_NOTHING)
        except OSError as error:
            return f"loading a tracing program is refused ({why(error)})"
        try:
            libbpf.link_fentry_multi(fd, []).close()
        except OSError as error:
            if error.errno != errno.EINVAL:  # no function is an error in itself
                return f"attaching is refused ({why(error)})"
        finally:
            os.close(fd)
        return None

    def attach(self, bpf: Object, progress: Progress) -> None:
        targets, self.left_out = split(self.sites)
        self.by_address = {target.address: target for target in targets}
        fill(bpf, self.by_address)
        program = bpf.program(self.program)
        self._attach(program.fd, [target for target in targets if target.module is None])
        for module in sorted({target.module for target in targets if target.module is not None}):
            of_module = [target for target in targets if target.module == module]
            try:
                with module_btf(module) as btf_fd:
                    fd = self._load(program.insns(), btf_fd)
            except OSError as error:
                self.skipped += [(target.name, f"its module: {why(error)}") for target in of_module]
                continue
            self._attach(fd, of_module)
            os.close(fd)
        if not self.links:
            raise Refused(self.skipped[0][1])
        self.attached = len(targets) - len(self.skipped)

    def _load(self, insns: bytes, btf_fd: int = 0) -> int:
        program_type, attach_type = self.kind
        return libbpf.prog_load(program_type, insns, expected_attach_type=attach_type, attach_btf_obj_fd=btf_fd)

    def _attach(self, prog_fd: int, targets: list[Target]) -> None:
        if targets:
            link_many(lambda some: libbpf.link_fentry_multi(prog_fd, [target.btf_id for target in some]), targets, self)
