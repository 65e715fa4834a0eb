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
from pwru.ebpf import RETURN_0
from pwru.live.backends import Probes, Progress, Refused, link_many, why
from pwru.live.backends.arg_table import copy, fill
from pwru.live.backends.trampoline import module_btf, split

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object


class Backend(Probes):
    name = "fentry-multi"
    program = "on_fentry_multi"
    section_tells = False
    kind = libbpf.BPF_PROG_TYPE_TRACING, libbpf.BPF_TRACE_FENTRY_MULTI

    def unavailable(self) -> str | None:
        if not self.sites.has_attach_type("BPF_TRACE_FENTRY_MULTI"):
            return "this kernel is older than fentry-multi links (Linux 7.2)"
        try:
            fd = self._load_copy(RETURN_0)
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
        targets, self.left_out = split(self.sites, self.sites.targets)
        self.by_address = {target.address: target for target in targets}
        fill(bpf, self.by_address)
        program = bpf.program(self.program)
        self._link(program.fd, [target for target in targets if target.module is None])
        self._link_modules(program.insns(), [target for target in targets if target.module is not None])
        if not self.links:
            raise Refused(self.skipped[0][1])
        self.attached = len(targets) - len(self.skipped)

    def attach_more(self, bpf: Object, targets: list[Target]) -> int:
        targets, _ = split(self.sites, targets)
        by_address = {target.address: target for target in targets}
        refused = len(self.skipped)
        with copy(bpf, self.program, by_address) as insns:
            self._link_modules(insns, targets)
        self.by_address.update(by_address)
        return len(targets) - (len(self.skipped) - refused)

    def _link_modules(self, insns: bytes, targets: list[Target]) -> None:
        for module in sorted({target.module or "" for target in targets}):
            of_module = [target for target in targets if target.module == module]
            try:
                with module_btf(module) as btf_fd:
                    fd = self._load_copy(insns, btf_fd=btf_fd)
            except OSError as error:
                self.skipped += [(target.name, f"its module: {why(error)}") for target in of_module]
                continue
            self._link(fd, of_module)
            os.close(fd)

    def _link(self, prog_fd: int, targets: list[Target]) -> None:
        if targets:
            link_many(lambda some: libbpf.link_fentry_multi(prog_fd, [target.btf_id for target in some]), targets, self)
