"""kprobe-multi: one BPF link for all functions.

Since v5.18 (commit 0dcac2725406 ("bpf: Add multi kprobe link")), with CONFIG_FPROBE. The fastest to attach and
to detach: a link costs a grace period when it goes, however many functions it has.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import RETURN_0
from pwru.live.backends import Probes, Progress, Refused, link_many
from pwru.live.backends.arg_table import copy, fill

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object


class Backend(Probes):
    name = "kprobe-multi"
    program = "on_kprobe_multi"
    kind = libbpf.BPF_PROG_TYPE_KPROBE, libbpf.BPF_TRACE_KPROBE_MULTI

    def unavailable(self) -> str | None:
        if not self.sites.has_attach_type("BPF_TRACE_KPROBE_MULTI"):
            return "this kernel is older than kprobe-multi links (Linux 5.18)"
        try:
            fd = self._load_copy(RETURN_0)
        except OSError as error:
            return f"loading a kprobe program is refused ({os.strerror(error.errno or 0)})"
        try:
            # No address is an error in itself (EINVAL), but a kernel without CONFIG_FPROBE says so first.
            libbpf.link_kprobe_multi(fd, []).close()
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return "this kernel is built without CONFIG_FPROBE"
            if error.errno != errno.EINVAL:
                return f"attaching is refused ({os.strerror(error.errno or 0)})"
        finally:
            os.close(fd)
        return None

    @property
    def ip_is_entry(self) -> bool:  # type: ignore[override]
        """Where functions begin at multiples of 16, and only on x86-64 is it known what the instruction pointer is."""
        return os.uname().machine == "x86_64" and all(target.address % 16 == 0 for target in self.sites.targets)

    def attach(self, bpf: Object, progress: Progress) -> None:
        targets = self.sites.targets
        self.by_address = {target.address: target for target in targets}
        fill(bpf, self.by_address)
        self._link(bpf.program(self.program).fd, targets)
        if not self.links:
            raise Refused(self.skipped[0][1])
        self.attached = len(targets) - len(self.skipped)

    def attach_more(self, bpf: Object, targets: list[Target]) -> int:
        if self.ip_is_entry:  # for the program that is copied this is decided
            self.skipped += [(target.name, "its entry is not aligned") for target in targets if target.address % 16]
            targets = [target for target in targets if not target.address % 16]
            if not targets:
                return 0
        by_address = {target.address: target for target in targets}
        refused = len(self.skipped)
        with copy(bpf, self.program, by_address) as insns:
            fd = self._load_copy(insns)
        try:
            self._link(fd, targets)
        finally:
            os.close(fd)  # the links hold the program
        self.by_address.update(by_address)
        return len(targets) - (len(self.skipped) - refused)

    def _link(self, prog_fd: int, targets: list[Target]) -> None:
        link_many(lambda some: libbpf.link_kprobe_multi(prog_fd, [target.address for target in some]), targets, self)
