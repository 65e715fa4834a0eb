"""kprobe: single kprobes, for kernels without FPROBE.

Defined through tracefs, not one by one as perf events: many probes can share one trace event there (since v5.5, commit
ca89bc071d5e ("tracing/kprobe: Add multi-probe per event support")), which is then enabled, given its BPF program and
disabled in one go. On x86-64 a probe stands just behind the ftrace nop at the function's entry, where the arguments are
still in their registers: arming one there is a patch of the text, while at the nop itself it is an update of all of
ftrace, a hundred times slower to enable and disable.

What is left is the kernel's own: it asks whether the place is a jump label, once for the probe and once for the jump
that it prepares in place of the breakpoint, and since v5.14 (commit ab3257042c26 ("jump_label, x86: Allow short NOPs"))
decodes the instructions at some 5000 labels each time, under a lock. Nobody who registers a kprobe gets around the
first time; without the second a hit would be an exception, at three times the price.

With --output-stack probes stand at the nop all the same. An instruction pointer behind the breakpoint may be behind an
instruction that has not run: if that is a push of one byte, the kernel takes something else for the return address.

Defined probes belong to nobody, so they would outlive a tracer that is killed. Therefore a child process waits from
before the first definition until this process is gone, whatever ended it, and then removes them; this also takes the
removal (an RCU grace period for each probe) out of the user's way. Disabling needs no help: the perf events are closed
with the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwru import libbpf
from pwru.kernel.btf import FUNC
from pwru.kernel.features import tracefs
from pwru.kernel.ftrace import nop_ends
from pwru.kernel.functions import Targets, drop_blacklisted
from pwru.libbpf import Link
from pwru.live.backends import Probes, Progress, Refused
from pwru.live.backends.arg_table import copy, fill

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.libbpf import Object

_GROUP = "pwru"
_EVENT = "skb"
# Where the ftrace nop ends, if the code cannot be read: without and with an endbr64 before it. The kernel refuses an
# offset inside an instruction.
_BEHIND_NOP = {"x86_64": (5, 9)}.get(os.uname().machine, ())
_NOP = 5  # bytes
# What the instruction pointer is behind the probe when it hits: the breakpoint, on all paths (int3, jump, ftrace).
_BREAKPOINT = {"x86_64": 1}.get(os.uname().machine, 0)

# include/uapi/linux/perf_event.h
_PERF_TYPE_TRACEPOINT = 2
_PERF_ATTR_SIZE_VER0 = 64
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_EVENT_IOC_SET_BPF = 0x40042408
_NR_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}


class Backend(Probes):
    name = "kprobe"
    program = "on_kprobe"
    kind = libbpf.BPF_PROG_TYPE_KPROBE, 0
    tries = 32

    def unavailable(self) -> str | None:
        if not self.sites.ask("register_kprobe", lambda btf: btf.find("register_kprobe", FUNC) is not None):
            return "this kernel is built without CONFIG_KPROBES"
        folder = tracefs()
        if folder is None:
            return "tracefs is not mounted (mount -t tracefs nodev /sys/kernel/tracing)"
        events = folder / "kprobe_events"
        if not events.exists():
            return "this kernel is built without CONFIG_KPROBE_EVENTS"
        try:
            os.close(os.open(events, os.O_WRONLY | os.O_APPEND))
        except OSError as error:
            return f"{events} cannot be written ({error.strerror})"
        return None

    def attach(self, bpf: Object, progress: Progress) -> None:
        self._tracefs = tracefs() or Path("/sys/kernel/tracing")
        self._group = f"{_GROUP}_{_pid_namespace()}_{os.getpid()}_{_start_time(os.getpid())}"
        self._guardian = _guard(self._tracefs, self._group)
        # The kernel tells hits by the event's name alone: it has to be of this process.
        self._event = f"{_EVENT}_{os.getpid()}"
        event = f"{self._group}/{self._event}"
        self.by_address.update(self._define(event, self.sites.targets, progress))
        self.attached = len(self.by_address)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")
        fill(bpf, self.by_address)
        self.links.append(self._open(event, bpf.program(self.program).fd))

    def attach_more(self, bpf: Object, targets: list[Target]) -> int:
        event = f"{self._group}/{self._event}_{len(self.links)}"
        by_address = self._define(event, targets, lambda _done, _total: None)
        if by_address:
            with copy(bpf, self.program, by_address) as insns:
                fd = self._load_copy(insns)
            try:
                self.links.append(self._open(event, fd))
            finally:
                os.close(fd)  # the event holds the program
            self.by_address.update(by_address)
        return len(by_address)

    def _define(self, event: str, targets: list[Target], progress: Progress) -> dict[int, Target]:
        """Defines a probe for each target, all of one event; those that could be, by where they will be seen to hit.

        By address: a name costs a search through all symbols, and may be that of several functions. The kernel takes
        two probes by address for the same unless their arguments differ (trace_kprobe_has_same_kprobe()), so each gets
        one of its own. It is never fetched: the BPF program runs before that and returns 0.
        """
        found = drop_blacklisted(Targets(targets, {}))
        self.skipped += [(name, cause) for cause, names in found.skipped.items() for name in names]
        ends = nop_ends([target.address for target in found.found])
        probes = []
        defined = {}
        for number, target in enumerate(found.found):
            entry = target.address
            behind = [entry + offset for offset in _BEHIND_NOP] if ends is None else [ends.get(entry, entry)]
            if self.with_stack:
                # Behind an endbr64 first: from the entry the kernel moves a probe there, without a word of where it is.
                behind = sorted((place - _NOP for place in behind if place > entry), reverse=True)
            probes.append(_Probe(target, f"n=+{number}(%sp)", list(dict.fromkeys([*behind, entry]))))
        fd = os.open(self._tracefs / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)  # what other tracers left waits until this is done; closing unlocks
        try:
            for first in range(0, len(probes), self.batch):
                some = probes[first : first + self.batch]
                for probe, place in zip(some, _define_probes(fd, f"p:{event}", some), strict=True):
                    if isinstance(place, OSError):
                        self.skipped.append((probe.target.name, os.strerror(place.errno or 0)))
                    else:
                        defined[place + _BREAKPOINT] = probe.target
                progress(first + len(some), len(probes))
        finally:
            os.close(fd)
        return defined

    def _open(self, event: str, prog_fd: int) -> Link:
        """Enables the trace event for all CPUs with this program; closing the descriptor disables it."""
        event_id = int((self._tracefs / "events" / event / "id").read_text())
        # struct perf_event_attr up to its first published size: type, size, config, sample_period, ...
        attr = struct.pack("=IIQQ", _PERF_TYPE_TRACEPOINT, _PERF_ATTR_SIZE_VER0, event_id, 1).ljust(64, b"\0")
        fd = _perf_event_open(attr, pid=-1, cpu=0)
        try:
            fcntl.ioctl(fd, _PERF_EVENT_IOC_SET_BPF, prog_fd)
            fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
        except OSError as error:
            os.close(fd)
            raise Refused(f"attaching is refused ({error.strerror})") from None
        return Link(fd, prog_fd)

    def _count_missed(self) -> int:
        """Lines of kprobe_profile are "EVENT HITS MISSES": Documentation/trace/kprobetrace.rst."""
        if not self.links:
            return 0
        missed = sum(dict(map(libbpf.prog_missed, self.links)).values())
        with contextlib.suppress(OSError):
            for line in (self._tracefs / "kprobe_profile").read_text().splitlines():
                name, _, misses = line.rsplit(None, 2)
                if f"{name.strip()}_".startswith(f"{self._event}_"):
                    missed += int(misses)
        return missed


class _Probe(NamedTuple):
    """What is to be defined: `argument` is unlike that of any other, `places` are addresses, the best one first."""

    target: Target
    argument: str
    places: list[int]


def _define_probes(fd: int, event: str, probes: list[_Probe]) -> list[int | OSError]:
    """Defines all of them; where each one is now, or the error of the last place that was tried.

    The kernel stops at the first line that it refuses, and does not tell which that was. Then they are written one by
    one: one that is there already is known by its place and argument (EEXIST).
    """
    try:
        os.write(fd, b"".join(_line(event, probe, probe.places[0]) for probe in probes))
    except OSError:
        return [_define_probe(fd, event, probe) for probe in probes]
    return [probe.places[0] for probe in probes]


def _define_probe(fd: int, event: str, probe: _Probe) -> int | OSError:
    refused = OSError()
    for place in probe.places:
        try:
            os.write(fd, _line(event, probe, place))
        except FileExistsError:
            return place
        except OSError as error:
            refused = error
        else:
            return place
    return refused


def _line(event: str, probe: _Probe, place: int) -> bytes:
    return f"{event} 0x{place:x} {probe.argument}\n".encode()


def _perf_event_open(attr: bytes, pid: int, cpu: int) -> int:
    """perf_event_open(2), which libc does not wrap."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    arguments = (ctypes.c_int(pid), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC))
    fd = int(syscall(ctypes.c_long(_NR_PERF_EVENT_OPEN[os.uname().machine]), attr, *arguments))
    if fd < 0:
        raise Refused(f"perf_event_open: {os.strerror(ctypes.get_errno())}")
    return fd


def _start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process, to tell it from a later one with its PID; proc_pid_stat(5)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def _pid_namespace() -> int:
    """In another one PIDs say nothing of who lives. 0 for a kernel that has one only."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def clean_up() -> None:
    """Removes, in the background, what tracers left that were killed together with their guardians."""
    folder = tracefs()
    if folder and _dead_groups(folder):
        os.close(_guard(folder, None))


def _guard(tracefs: Path, group: str | None) -> int:
    """Starts the child that removes the group's probes once this process has ended, and those of dead tracers now.

    Returns the write end of a pipe that nobody writes to: it is closed when this process ends.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(read_end)
        return write_end
    status = 1
    try:
        os.setsid()  # out of reach of what the terminal sends to the tracer
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(read_end, 3)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        for dead in _dead_groups(tracefs):
            _remove(tracefs, dead)
        os.read(3, 1)
        if group:
            _remove(tracefs, group)
        status = 0
    finally:
        os._exit(status)


def _dead_groups(tracefs: Path) -> list[str]:
    ours = re.compile(rf"{_GROUP}_{_pid_namespace()}_([0-9]+)_([0-9]+)")
    groups = filter(None, map(ours.fullmatch, os.listdir(tracefs / "events")))
    return [group[0] for group in groups if _start_time(int(group[1])) != int(group[2])]


def _remove(tracefs: Path, group: str) -> None:
    """Removes all probes of a group, waiting for those that are still being disabled.

    One by one, so that a tracer that starts meanwhile does not wait for all of them: see _define().
    """
    path = tracefs / "kprobe_events"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for _ in range(600):
        probes = re.findall(rf"^p\d*:({group}/.+)$", path.read_text(), re.MULTILINE)
        if not probes:
            return
        for probe in probes:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(OSError):
                os.write(fd, f"-:{probe}\n".encode())
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(0.001)  # whoever waits for the lock gets it
        time.sleep(0.1)
