"""Kprobes of tracefs: probes defined and removed, also after a tracer that was killed.

Many probes can share one trace event (since v5.5, commit ca89bc071d5e ("tracing/kprobe: Add multi-probe per event
support")), which is then enabled, given its BPF program and disabled in one go. On x86-64 a probe stands just after the
ftrace nop at the function's entry, where the arguments are still in their registers: arming it there patches the text;
at the nop itself, all of ftrace is updated, and enabling and disabling take a hundred times longer.

The kernel checks whether the place is a jump label, once for the probe and once for the jump that replaces the
breakpoint, and since v5.14 (commit ab3257042c26 ("jump_label, x86: Allow short NOPs")) decodes the instructions at some
5000 labels each time, under a lock. The first check is unavoidable. Skipping the second (no optimised jump) would make
each hit an exception, three times as expensive.

Defined probes belong to no process and outlive a tracer that is killed, so a child can wait for its end and remove
them. Removal takes an RCU grace period per probe. Disabling needs no help: perf events are closed with their process.
"""

import contextlib
import fcntl
import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pwru.kernel import features
from pwru.kernel.ftrace import nop_ends
from pwru.kernel.functions import Target, Targets, drop_blacklisted
from pwru.live.backends.child import Child, start
from pwru.live.backends.how import How, Progress, reason_of

_PREFIX = "pwru"
_groups = itertools.count()
# Where the ftrace nop ends, if the code cannot be read: without and with an endbr64. The kernel refuses the wrong one.
_NOP_ENDS = {"x86_64": (5, 9)}.get(os.uname().machine, ())
_NOP = 5  # bytes
# The instruction pointer of a hit, as an offset from the probe: after the breakpoint, whether int3, jump or ftrace.
_BREAKPOINT = {"x86_64": 1}.get(os.uname().machine, 0)


class Probe(NamedTuple):
    """A probe to define. `argument` differs from that of any other probe; `addresses`: where it may be, best first."""

    target: Target
    argument: str
    addresses: list[int]


def new_names() -> tuple[str, str]:
    """Return names for a new group of this process, and for an event: the kernel counts hits by the event's name."""
    number, pid = next(_groups), os.getpid()
    return f"{_PREFIX}_{_pid_namespace()}_{pid}_{_start_time(pid)}_{number}", f"skb_{pid}_{number}"


def define(
    tracefs: Path, event: str, targets: list[Target], how: How, progress: Progress
) -> tuple[dict[int, Target], list[tuple[str, str]]]:
    """Define a probe for each target, all of one event, GROUP/NAME.

    Return those that exist, by the address that they report, and the names that the kernel refused, with reasons.

    By address: a name costs a search through all symbols, and several functions may have it. The kernel takes two
    probes by address for the same unless their arguments differ (trace_kprobe_has_same_kprobe()), so each gets an
    argument of its own. It is never fetched: the BPF program runs first and returns 0.
    """
    allowed = drop_blacklisted(Targets(targets, {}))
    skipped = [(name, cause) for cause, names in allowed.skipped.items() for name in names]
    probes = _probes(allowed.found, at_nop=how.with_stack)
    by_address = {}
    with _kprobe_events(tracefs) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)  # removing the probes of dead tracers waits until this is done
        for start in range(0, len(probes), how.batch):
            batch = probes[start : start + how.batch]
            for probe, address in zip(batch, define_probes(fd, event, batch), strict=True):
                if isinstance(address, OSError):
                    skipped.append((probe.target.name, reason_of(address)))
                else:
                    by_address[address + _BREAKPOINT] = probe.target
            progress(start + len(batch), len(probes))
    return by_address, skipped


def _probes(targets: list[Target], *, at_nop: bool) -> list[Probe]:
    """Return the probes to define.

    `at_nop`: for stacks. After the breakpoint the instruction pointer may be past an instruction that has not run: if
    that is a push of one byte, the kernel takes something else for the return address.
    """
    ends = nop_ends([target.address for target in targets])
    probes = []
    for number, target in enumerate(targets):
        entry = target.address
        addresses = [entry + offset for offset in _NOP_ENDS] if ends is None else [ends.get(entry, entry)]
        if at_nop:
            # After an endbr64 first: given the entry, the kernel silently moves the probe there.
            addresses = sorted((end - _NOP for end in addresses if end > entry), reverse=True)
        probes.append(Probe(target, f"n=+{number}(%sp)", list(dict.fromkeys([*addresses, entry]))))
    return probes


def define_probes(fd: int, event: str, probes: list[Probe]) -> list[int | OSError]:
    """Define all of them; return the address of each one, or the error at the last address that was tried.

    The kernel stops at the first line that it refuses, and does not say which. Then they are written one by one: a
    probe that exists already is known by its address and argument (EEXIST).
    """
    try:
        os.write(fd, b"".join(_line(event, probe, probe.addresses[0]) for probe in probes))
    except OSError:
        return [_define_probe(fd, event, probe) for probe in probes]
    return [probe.addresses[0] for probe in probes]


def _define_probe(fd: int, event: str, probe: Probe) -> int | OSError:
    refused = OSError()
    for address in probe.addresses:
        try:
            os.write(fd, _line(event, probe, address))
        except FileExistsError:
            return address
        except OSError as error:
            refused = error
        else:
            return address
    return refused


def _line(event: str, probe: Probe, address: int) -> bytes:
    return f"p:{event} 0x{address:x} {probe.argument}\n".encode()


@contextlib.contextmanager
def _kprobe_events(tracefs: Path) -> Iterator[int]:
    fd = os.open(tracefs / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        yield fd
    finally:
        os.close(fd)  # unlocks it, too


def count_missed(tracefs: Path, event: str) -> int:
    """Return the misses of an event and of those whose names go on with _. Raises OSError.

    Lines of kprobe_profile are "EVENT HITS MISSES": Documentation/trace/kprobetrace.rst.
    """
    missed = 0
    for line in (tracefs / "kprobe_profile").read_text().splitlines():
        name, _, misses = line.rsplit(None, 2)
        if f"{name.strip()}_".startswith(f"{event}_"):
            missed += int(misses)
    return missed


def remove(tracefs: Path, group: str) -> None:
    """Remove all probes of a group, waiting for those that are still being disabled.

    One by one, so that a tracer that starts meanwhile does not wait for all of them: see define().
    """
    with _kprobe_events(tracefs) as fd:
        for attempt in range(600):
            probes = re.findall(rf"^p\d*:({group}/.+)$", (tracefs / "kprobe_events").read_text(), re.MULTILINE)
            if not probes:
                return
            if attempt:
                time.sleep(0.1)
            for probe in probes:
                fcntl.flock(fd, fcntl.LOCK_EX)
                with contextlib.suppress(OSError):
                    os.write(fd, f"-:{probe}\n".encode())
                fcntl.flock(fd, fcntl.LOCK_UN)
                time.sleep(0.001)  # whoever waits for the lock gets it


def dead_groups(tracefs: Path) -> list[str]:
    """Return the groups of tracers of this PID namespace that have ended."""
    ours = re.compile(rf"{_PREFIX}_{_pid_namespace()}_([0-9]+)_([0-9]+)(_[0-9]+)?")
    groups = filter(None, map(ours.fullmatch, os.listdir(tracefs / "events")))
    return [group[0] for group in groups if _start_time(int(group[1])) != int(group[2])]


def clean_up() -> None:
    """Remove, in the background, the probes of tracers that were killed together with their guardians."""
    tracefs = features.tracefs()
    if tracefs and dead_groups(tracefs):
        guard(tracefs, None).release()


def guard(tracefs: Path, group: str | None) -> Child:
    """Start a child that removes the probes of `group` once it is released; it removes those of dead tracers at once.

    It ignores what the terminal sends to the tracer, and has none of its descriptors.
    """

    def work(read_end: int) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(read_end, 3)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        for dead in dead_groups(tracefs):
            remove(tracefs, dead)
        os.read(3, 1)
        if group:
            remove(tracefs, group)

    return start(work)


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks, to tell it from a later one with its PID: proc_pid_stat(5)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def _pid_namespace() -> int:
    """Return the number of the PID namespace, 0 if the kernel has only one. PIDs mean nothing in another one."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
