"""kprobe: single kprobes, for kernels without FPROBE.

Defined through tracefs, not one by one as perf events: there many probes share one trace event (kprobe_events.py),
which needs one perf event and one BPF program.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Collection, Mapping

from pwru import libbpf
from pwru.kernel import features
from pwru.kernel.btf import FUNC
from pwru.kernel.functions import Target
from pwru.kernel.places import Places
from pwru.libbpf import Link, syscalls
from pwru.live.backends import kprobe_events
from pwru.live.backends.arg_table import load_args
from pwru.live.backends.base import SharedProgram, programs_missed
from pwru.live.backends.how import (
    RETURNS_ON_STACK,
    How,
    Missing,
    ProgramSpec,
    Progress,
    Refused,
    reason_of,
    without_ftrace,
)
from pwru.live.backends.tracefs import Tracefs
from pwru.live.permissions import refused_call
from pwru.live.program import Program

# include/uapi/linux/perf_event.h
_PERF_TYPE_SOFTWARE, _PERF_TYPE_TRACEPOINT = 1, 2
_PERF_COUNT_SW_DUMMY = 9
_PERF_ATTR_SIZE_VER0 = 64
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_EVENT_IOC_SET_BPF = 0x40042408


class Kprobe(SharedProgram):
    name = "kprobe"
    program = ProgramSpec("on_kprobe", libbpf.BPF_PROG_TYPE_KPROBE)
    sees_stack = RETURNS_ON_STACK

    def __init__(self, places: Places, how: How = How()) -> None:  # noqa: B008  (a constant)
        super().__init__(places, how)
        self._tracefs: Tracefs
        self._group, self._event = kprobe_events.new_names()
        self._held = contextlib.ExitStack()  # what detach() gives back
        self._removes = False  # the definitions, at the end: there is no guardian
        self._loads = 0  # of modules, for the names of their events

    def config(self) -> Mapping[str, int]:
        return {"tries": 32}

    def tidy(self) -> None:
        """Do nothing: the guardian does it."""

    def unavailable(self) -> Missing | None:
        if not self.kernel.fact("register_kprobe", lambda btf: btf.find("register_kprobe", FUNC) is not None):
            return Missing("this kernel is built without CONFIG_KPROBES")
        if features.lockdown() == features.CONFIDENTIALITY:
            return Missing("this kernel is locked down (confidentiality), which forbids kprobes through tracefs")
        if not features.kprobes_enabled():
            path = features.KPROBES_ENABLED
            return Missing(f"kprobes are switched off, and none would fire; echo 1 >{path} switches them on")
        # For a whole stack they are at the start of functions, where ftrace is.
        if self.how.with_stack and (missing := without_ftrace()):
            return missing
        try:
            tracefs = Tracefs()
        except OSError as error:
            return Missing(
                f"tracefs is not mounted and cannot be ({reason_of(error)}): mount -t tracefs nodev"
                " /sys/kernel/tracing, or, for a container, --volume=/sys/kernel/tracing:/sys/kernel/tracing, or, in a"
                " network namespace, nsenter --net=/run/netns/NAME pwru …"
            )
        with contextlib.closing(tracefs):
            events = tracefs.path / "kprobe_events"
            if not events.exists():
                return Missing("this kernel is built without CONFIG_KPROBE_EVENTS")
            try:
                kprobe_events.try_to_write(tracefs.path)
            except OSError as error:
                return Missing(f"{events} cannot be written ({reason_of(error)})")
        try:
            os.close(_perf_event(_PERF_TYPE_SOFTWARE, _PERF_COUNT_SW_DUMMY))
        except OSError as error:
            return Missing(_perf_refused(error))
        return None

    def attach(self, program: Program, progress: Progress) -> None:
        try:
            self._tracefs = self._held.enter_context(contextlib.closing(Tracefs()))
            self._hold()
        except OSError as error:
            raise Refused(f"attaching is refused ({reason_of(error)})") from None
        self.by_address.update(self._define(self._event, self.places.functions, progress))
        self.attached = len(self.by_address)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")
        load_args(program, self.by_address)
        self.links.append(self._open(self._event, program.fd))

    def _hold(self) -> None:
        """Lock the group, and see to it that its probes are removed."""
        lock = kprobe_events.hold(self._tracefs.path, self._group)
        self._held.callback(os.close, lock)
        if self.how.may_fork:
            with contextlib.suppress(OSError):  # then nobody removes them if this process is killed
                self._held.callback(kprobe_events.guard(self._tracefs, self._group, lock).release)
                return
        self._removes = True
        self._held.callback(kprobe_events.remove_group, self._tracefs.path, self._group)

    def admit(self, targets: list[Target]) -> dict[int, Target]:
        self._loads += 1
        return self._define(self._next_event, targets, lambda _done, _total: None)

    def link_copy(self, insns: bytes, targets: list[Target]) -> None:
        with self.copied(insns) as fd:
            self.links.append(self._open(self._next_event, fd))

    @property
    def _next_event(self) -> str:
        return f"{self._event}_{self._loads}"

    def _define(self, event: str, targets: list[Target], progress: Progress) -> dict[int, Target]:
        name = f"{self._group}/{event}"
        by_address, skipped = kprobe_events.define(self._tracefs.path, name, targets, self.how, progress)
        self.skipped += skipped
        return by_address

    def _open(self, event: str, prog_fd: int) -> Link:
        """Enable the trace event for all CPUs with this program; closing the link disables it."""
        event_id = int((self._tracefs.path / "events" / self._group / event / "id").read_text())
        try:
            fd = _perf_event(_PERF_TYPE_TRACEPOINT, event_id)
        except OSError as error:
            raise Refused(_perf_refused(error)) from None
        try:
            fcntl.ioctl(fd, _PERF_EVENT_IOC_SET_BPF, prog_fd)
            fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
        except OSError as error:
            os.close(fd)
            raise Refused(f"attaching is refused ({reason_of(error)})") from None
        return Link(fd, prog_fd)

    def forget(self, modules: Collection[str]) -> Callable[[], None]:
        """Forget the names; what is returned also removes the definitions.

        They are looked up now, while those of a module that was loaded again are not there yet: they may look the same.
        """
        gone = [target for target in self.by_address.values() if target.module in modules]
        probes = kprobe_events.defined(self._tracefs.path, self._group, gone)
        close = super().forget(modules)

        def give_back() -> None:
            close()
            if probes:
                missed = self._probes_missed()
                with contextlib.suppress(OSError):  # the end of the trace removes them, too
                    kprobe_events.remove(self._tracefs.path, probes)
                self.missed += missed - self._probes_missed()

        return give_back

    def try_end(self) -> None:
        super().try_end()
        kprobe_events.count_missed(self._tracefs.path, self._event)
        if self._removes:
            kprobe_events.try_to_write(self._tracefs.path)

    def detach(self) -> None:
        """Disable the probes; the guardian removes them, or, if there is none, this process."""
        try:
            if self.links:
                self.missed += self._probes_missed()
            super().detach()
        finally:
            self._held.close()

    def missed_by(self, links: list[Link]) -> int:
        return programs_missed(links)  # a perf event counts none: those of the probes are added

    def _probes_missed(self) -> int:
        try:
            return kprobe_events.count_missed(self._tracefs.path, self._event)
        except OSError:
            return 0


def _perf_refused(error: OSError) -> str:
    help_ = "; see the sysctl kernel.perf_event_paranoid" if error.errno == errno.EACCES else ""
    return refused_call("perf_event_open") or f"perf_event_open is refused ({reason_of(error)}){help_}"


def _perf_event(event_type: int, config: int) -> int:
    """Open a perf event of all processes."""
    # struct perf_event_attr up to its first published size: type, size, config, sample_period, ...
    attr = struct.pack("=IIQQ", event_type, _PERF_ATTR_SIZE_VER0, config, 1).ljust(_PERF_ATTR_SIZE_VER0, b"\0")
    return syscalls.perf_event_open(attr, pid=-1, cpu=0)
