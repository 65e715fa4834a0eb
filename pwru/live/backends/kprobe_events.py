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

The child may be killed, too, as all processes of a container are. So a tracer and its child hold a lock on
kprobe_events as long as they live. It is seen from all containers, where PIDs mean something else, and the name of the
group says which it is: a group whose lock nobody holds is left over, and the next tracer removes it.
"""

import contextlib
import fcntl
import os
import re
import struct
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pwru.kernel.ftrace import nop_ends
from pwru.kernel.functions import Target, Targets, drop_blacklisted
from pwru.live.backends.child import Child, start
from pwru.live.backends.how import How, Progress, reason_of
from pwru.live.backends.tracefs import Tracefs

_PREFIX = "pwru"
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid
# Where the ftrace nop ends, if the code cannot be read: without and with an endbr64. The kernel refuses the wrong one.
_NOP_ENDS = {"x86_64": (5, 9)}.get(os.uname().machine, ())
_NOP = 5  # bytes
_S64_MAX = (1 << 63) - 1
# The instruction pointer of a hit, as an offset from the probe: after the breakpoint, whether int3, jump or ftrace.
_BREAKPOINT = {"x86_64": 1}.get(os.uname().machine, 0)


class Probe(NamedTuple):
    """A probe to define. `argument` differs from that of any other probe; `addresses`: where it may be, best first."""

    target: Target
    argument: str
    addresses: list[int]


def new_names() -> tuple[str, str]:
    """Return names for a new group of this process, and for an event: the kernel counts hits by the event's name."""
    number = int.from_bytes(os.urandom(6))
    return f"{_PREFIX}_{os.getpid()}_{number}", f"skb_{number}"


def hold(tracefs: Path, group: str) -> int:
    """Lock a group, before its first probe; return the descriptor that holds the lock, also after a fork."""
    fd = os.open(tracefs / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _lock(group))
    except OSError:
        os.close(fd)
        raise
    return fd


def _lock(group: str) -> bytes:
    """Return the lock of a group: on one byte, whose offset is the number in the name."""
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, int(group.rpartition("_")[2]), 1, 0)


def _is_held(fd: int, group: str) -> bool:
    lock_type, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _lock(group)))
    return bool(lock_type != fcntl.F_UNLCK)


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
    for target in targets:
        entry = target.address
        addresses = [entry + offset for offset in _NOP_ENDS] if ends is None else [ends.get(entry, entry)]
        if at_nop:
            # After an endbr64 first: given the entry, the kernel silently moves the probe there.
            addresses = sorted((end - _NOP for end in addresses if end > entry), reverse=True)
        probes.append(Probe(target, _argument(target), list(dict.fromkeys([*addresses, entry]))))
    return probes


def _argument(target: Target) -> str:
    """Return an argument that no other probe has: the address, which kprobe_events hides, as a positive number."""
    return f"n=+{target.address & _S64_MAX}(%sp)"


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


def try_to_write(tracefs: Path) -> None:
    """Raise OSError if this process may not define or remove probes."""
    os.close(os.open(tracefs / "kprobe_events", os.O_WRONLY | os.O_APPEND))


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


def defined(tracefs: Path, group: str, targets: Collection[Target]) -> list[str]:
    """Return the group's probes for these targets, as kprobe_events names them; none if it cannot be read."""
    arguments = {_argument(target) for target in targets}
    if arguments:
        with contextlib.suppress(OSError):
            return [probe for probe in _defined(tracefs, group) if probe.rpartition(" ")[2] in arguments]
    return []


def _defined(tracefs: Path, group: str) -> list[str]:
    text = (tracefs / "kprobe_events").read_text()
    return re.findall(rf"^p\d*:({group}/.+)$", text, re.MULTILINE)


def remove(tracefs: Path, probes: Collection[str]) -> None:
    """Remove these probes; those that cannot be removed yet stay.

    One by one, so that a tracer that starts meanwhile does not wait for all of them: see define(). An event that is in
    use keeps its last probe.
    """
    with _kprobe_events(tracefs) as fd:
        for probe in probes:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(OSError):
                os.write(fd, f"-:{probe}\n".encode())
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(0.001)  # whoever waits for the lock gets it


def remove_group(tracefs: Path, group: str) -> None:
    """Remove all probes of a group, waiting for those that are still being disabled."""
    for attempt in range(600):
        if not (probes := _defined(tracefs, group)):
            return
        if attempt:
            time.sleep(0.1)
        remove(tracefs, probes)


def dead_groups(tracefs: Path) -> list[str]:
    """Return the groups of tracers that have ended, with their guardians. Raises OSError."""
    ours = re.compile(rf"{_PREFIX}_[0-9]+_[0-9]{{1,15}}")
    groups = [name for name in os.listdir(tracefs / "events") if ours.fullmatch(name)]
    if not groups:
        return []
    with _kprobe_events(tracefs) as fd:
        return [group for group in groups if not _is_held(fd, group)]


def clean_up() -> None:
    """Remove, in the background, the probes of tracers that were killed together with their guardians."""
    with contextlib.suppress(OSError), contextlib.closing(Tracefs()) as tracefs:  # it may not be ours to write
        if dead_groups(tracefs.path):
            guard(tracefs).release()


def guard(tracefs: Tracefs, group: str = "", lock: int = -1) -> Child:
    """Start a child that removes the probes of `group` once it is released; it removes those of dead tracers at once.

    `lock`: what hold() returned for the group; the child holds it until it has done so.
    """

    def work(read_end: int) -> None:
        with contextlib.suppress(OSError):
            for dead in dead_groups(tracefs.path):
                remove_group(tracefs.path, dead)
        os.read(read_end, 1)
        if group:
            remove_group(tracefs.path, group)

    return start(work, [lock, tracefs.fd])
