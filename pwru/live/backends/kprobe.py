"""kprobe: single kprobes, for kernels without FPROBE.

Defined through tracefs, not one by one as perf events: there many probes share one trace event (kprobe_events.py),
which needs one perf event and one BPF program.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from pwru import libbpf
from pwru.kernel import features
from pwru.kernel.btf import FUNC
from pwru.kernel.functions import Target
from pwru.kernel.places import Places
from pwru.libbpf import Link, syscalls
from pwru.live.backends import kprobe_events
from pwru.live.backends.arg_table import load_args
from pwru.live.backends.base import SharedProgram
from pwru.live.backends.child import Child
from pwru.live.backends.how import How, Missing, ProgramSpec, Progress, Refused, reason_of
from pwru.live.program import Program

# include/uapi/linux/perf_event.h
_PERF_TYPE_TRACEPOINT = 2
_PERF_ATTR_SIZE_VER0 = 64
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_EVENT_IOC_SET_BPF = 0x40042408


class Kprobe(SharedProgram):
    name = "kprobe"
    program = ProgramSpec("on_kprobe", libbpf.BPF_PROG_TYPE_KPROBE)

    def __init__(self, places: Places, how: How = How()) -> None:  # noqa: B008  (a constant)
        super().__init__(places, how)
        self._tracefs = Path("/sys/kernel/tracing")
        self._group, self._event = kprobe_events.new_names()
        self._guardian: Child | None = None
        self._must_remove = False

    def config(self) -> Mapping[str, int]:
        return {"tries": 32}

    def tidy(self) -> None:
        """Do nothing: the guardian does it."""

    def unavailable(self) -> Missing | None:
        if not self.kernel.fact("register_kprobe", lambda btf: btf.find("register_kprobe", FUNC) is not None):
            return Missing("this kernel is built without CONFIG_KPROBES")
        tracefs = features.tracefs()
        if tracefs is None:
            return Missing("tracefs is not mounted (mount -t tracefs nodev /sys/kernel/tracing)")
        events = tracefs / "kprobe_events"
        if not events.exists():
            return Missing("this kernel is built without CONFIG_KPROBE_EVENTS")
        try:
            os.close(os.open(events, os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            return Missing(f"{events} cannot be written ({reason_of(error)})")
        self._tracefs = tracefs
        return None

    def attach(self, program: Program, progress: Progress) -> None:
        if self.how.may_fork:
            self._guardian = kprobe_events.guard(self._tracefs, self._group)
        self.by_address.update(self._define(self._event, self.places.functions, progress))
        self.attached = len(self.by_address)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")
        load_args(program, self.by_address)
        self.links.append(self._open(self._event, program.fd))

    def admit(self, targets: list[Target]) -> dict[int, Target]:
        return self._define(self._next_event, targets, lambda _done, _total: None)

    def link_copy(self, insns: bytes, targets: list[Target]) -> None:
        with self.copied(insns) as fd:
            self.links.append(self._open(self._next_event, fd))

    @property
    def _next_event(self) -> str:
        return f"{self._event}_{len(self.links)}"

    def _define(self, event: str, targets: list[Target], progress: Progress) -> dict[int, Target]:
        self._must_remove = self._guardian is None
        by_address, skipped = kprobe_events.define(self._tracefs, f"{self._group}/{event}", targets, self.how, progress)
        self.skipped += skipped
        return by_address

    def _open(self, event: str, prog_fd: int) -> Link:
        """Enable the trace event for all CPUs with this program; closing the link disables it."""
        event_id = int((self._tracefs / "events" / self._group / event / "id").read_text())
        # struct perf_event_attr up to its first published size: type, size, config, sample_period, ...
        attr = struct.pack("=IIQQ", _PERF_TYPE_TRACEPOINT, _PERF_ATTR_SIZE_VER0, event_id, 1).ljust(64, b"\0")
        try:
            fd = syscalls.perf_event_open(attr, pid=-1, cpu=0)
        except OSError as error:
            raise Refused(f"perf_event_open: {reason_of(error)}") from None
        try:
            fcntl.ioctl(fd, _PERF_EVENT_IOC_SET_BPF, prog_fd)
            fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
        except OSError as error:
            os.close(fd)
            raise Refused(f"attaching is refused ({reason_of(error)})") from None
        return Link(fd, prog_fd)

    def detach(self) -> None:
        """Disable the probes; the guardian removes them, or, if there is none, this process."""
        try:
            super().detach()
        finally:
            if self._guardian:
                self._guardian.release()
                self._guardian = None
            if self._must_remove:
                self._must_remove = False
                kprobe_events.remove(self._tracefs, self._group)

    def count_missed(self) -> int:
        if not self.links:
            return 0
        missed = self.programs_missed()
        with contextlib.suppress(OSError):
            missed += kprobe_events.count_missed(self._tracefs, self._event)
        return missed
