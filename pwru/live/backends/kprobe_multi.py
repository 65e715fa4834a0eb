"""kprobe-multi: one BPF link for all functions.

Since v5.18 (commit 0dcac2725406 ("bpf: Add multi kprobe link")), with CONFIG_FPROBE. The fastest to attach and
to detach: a link costs one grace period when it goes, however many functions it has.
"""

import os
from collections.abc import Mapping

from pwru import libbpf
from pwru.kernel.functions import Target
from pwru.live.backends.arg_table import load_args
from pwru.live.backends.base import SharedProgram
from pwru.live.backends.how import RETURNS_ON_STACK, Missing, ProgramSpec, Progress, Refused, without_ftrace
from pwru.live.program import Program


class KprobeMulti(SharedProgram):
    name = "kprobe-multi"
    program = ProgramSpec("on_kprobe_multi", libbpf.BPF_PROG_TYPE_KPROBE, libbpf.BPF_TRACE_KPROBE_MULTI)
    sees_stack = RETURNS_ON_STACK

    def unavailable(self) -> Missing | None:
        if not self.kernel.has_attach_type("BPF_TRACE_KPROBE_MULTI"):
            return Missing("this kernel is older than kprobe-multi links", "5.18", "0dcac2725406")
        if missing := without_ftrace():
            return missing
        # A kernel without CONFIG_FPROBE says so before it looks at the addresses.
        unsupported = Missing("this kernel is built without CONFIG_FPROBE")
        return self.probe_link("kprobe", lambda fd: libbpf.link_kprobe_multi(fd, []), unsupported=unsupported)

    @property
    def _ip_is_entry(self) -> bool:
        """True if functions begin at multiples of 16 and hits report their entries, rounded up: on x86-64 only."""
        return os.uname().machine == "x86_64" and all(target.address % 16 == 0 for target in self.places.functions)

    def config(self) -> Mapping[str, int]:
        return {**super().config(), "ip_is_entry": self._ip_is_entry}

    def attach(self, program: Program, progress: Progress) -> None:
        targets = self.places.functions
        self.by_address = {target.address: target for target in targets}
        load_args(program, self.by_address)
        self._link(program.fd, targets)
        if not self.links:
            raise Refused(self.skipped[0][1])
        self.attached = len(targets) - len(self.skipped)

    def admit(self, targets: list[Target]) -> dict[int, Target]:
        if self._ip_is_entry:  # the program to copy relies on that
            self.skipped += [(target.name, "its entry is not aligned") for target in targets if target.address % 16]
            targets = [target for target in targets if not target.address % 16]
        return {target.address: target for target in targets}

    def link_copy(self, insns: bytes, targets: list[Target]) -> None:
        with self.copied(insns) as fd:
            self._link(fd, targets)

    def _link(self, prog_fd: int, targets: list[Target]) -> None:
        self.link_many(lambda part: libbpf.link_kprobe_multi(prog_fd, [target.address for target in part]), targets)
