"""Where containers, services and kernels say no: one line each that says who does, and where to change it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pwru.live.backends import BACKENDS
from vmtest.network import Network

from . import seccomp
from .backends import NARROW
from .refusals import refused, run, working

pytestmark = [pytest.mark.one_kernel, pytest.mark.usefixtures("nothing_left")]

BPF_MAP_CREATE, BPF_PROG_LOAD = 0, 5  # enum bpf_cmd
# What Docker and Podman hide from a container.
MASKED = """
mount -t proc -o hidepid=2 none /proc
mount --bind /dev/null /proc/kcore
mount --bind /dev/null /proc/modules
mount -t tmpfs none /sys/fs/bpf
mount -t tmpfs none /sys/kernel/security
mount -o remount,bind,ro /sys
mount -t tmpfs -o ro none /var/cache
"""


def under_seccomp(refusal: str) -> tuple[str, ...]:
    return sys.executable, seccomp.__file__, refusal


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("bpf=ENOSYS", "Function not implemented"),
        ("bpf=EACCES", "Permission denied"),
        ("bpf=EPERM", "Operation not permitted"),
    ],
)
def test_seccomp_refuses_bpf(call: str, reason: str) -> None:
    said = f"bpf() is refused ({reason}) by a seccomp filter; allow it in the seccomp profile of the container"
    assert refused(*under_seccomp(call), "pwru", *NARROW).startswith(f"pwru: {said}")


@pytest.mark.parametrize(("command", "what"), [(BPF_MAP_CREATE, "map"), (BPF_PROG_LOAD, "program")])
def test_one_command_is_refused(command: int, what: str) -> None:
    """As security modules do, too."""
    line = refused(*under_seccomp(f"bpf/{command}=EACCES"), "pwru", *NARROW, loads=True)
    assert line.startswith(f"pwru: any BPF {what} is refused (Permission denied) by a seccomp filter; allow it")


def test_check_says_it_once() -> None:
    done = run(*under_seccomp("bpf=ENOSYS"), "pwru", "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("bpf() is refused") == 1
    assert len(re.findall(r"^  \S+ +no +as above$", done.stdout, re.MULTILINE)) == len(BACKENDS) - 1


def test_seccomp_refuses_perf_events() -> None:
    """Only kprobe needs them, and does not define a probe before it says so."""
    line = refused(*under_seccomp("perf_event_open=EACCES"), "pwru", "--backend=kprobe", *NARROW)
    assert "kprobe: perf_event_open() is refused (Permission denied) by a seccomp filter" in line


@pytest.mark.parametrize(
    ("before", "arguments", "message"),
    [
        ("mount -t tmpfs none /proc", NARROW, r"cannot read /proc/self/status \(No such .*\): mount /proc .*"),
        ("mount -t tmpfs none /sys", NARROW, r"cannot read the number of CPUs from /sys/.*: /sys is hidden .*"),
        ("mount -t tmpfs none /sys/kernel", NARROW, r"/sys/kernel/btf/vmlinux is hidden, or /sys not mounted: .*"),
        ("mount --bind /dev/null /sys/kernel/btf/vmlinux", NARROW, r"/sys/kernel/btf/vmlinux is hidden, .*"),
        (
            "mount --bind /dev/null /proc/kallsyms",
            ["--backend=kprobe-multi", *NARROW],
            r".*/proc/kallsyms: it holds no symbols: .* a container hides them",
        ),
    ],
)
def test_a_place_that_is_hidden(before: str, arguments: list[str], message: str, tmp_path: Path) -> None:
    """Also for facts about this kernel that are known from an earlier start."""
    with working(tmp_path, *NARROW):
        pass
    assert re.fullmatch(f"pwru: {message}", refused("pwru", *arguments, before=before, loads=True))


def test_root_without_capabilities() -> None:
    line = refused("setpriv", "--bounding-set=-all", "--inh-caps=-all", "pwru", *NARROW)
    assert line.startswith("pwru: not permitted: CAP_BPF and CAP_PERFMON missing, even for root; add them to the conta")


def test_what_a_privileged_container_hides_is_not_needed(tmp_path: Path, network: Network) -> None:
    with working(tmp_path, *NARROW, "--all-kmods", "icmp", before=MASKED) as trace:
        network.ping()
        trace.wait_for_func(r"10\.9\.0\.1")
