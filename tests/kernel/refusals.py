"""The command where something is missing or damaged: the one line that it then ends with, or its trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwru import libbpf
from pwru.ebpf import RETURN_0
from vmtest.network import sh

from .leftovers import PATIENCE, ids
from .tracing import Trace

# The installed product, which is not what pytest imports as `pwru`.
PACKAGE, LIBPCAP = (
    Path(sh(sys.executable, "-c", f"import importlib.util as u; print(u.find_spec('{name}').origin)").stdout).parent
    for name in ("pwru", "libpcap")
)
OBJECT = PACKAGE / "pwru.bpf.o"
VMLINUX = Path("/sys/kernel/btf/vmlinux")
NO_BTF = "mount -t tmpfs none /sys/kernel/btf"
NO_TRACEFS = "mount -t tmpfs none /sys/kernel/tracing; mount -t tmpfs none /sys/kernel/debug"
# Who cannot mount it, nor look into the root of init.
CANNOT_MOUNT = "setpriv", "--bounding-set=-sys_admin,-sys_ptrace"


def elsewhere(before: str) -> tuple[str, ...]:
    """What runs a command in a mount namespace of its own, changed by these lines of shell."""
    return ("unshare", "--mount", "sh", "-ec", f'{before}\nexec "$@"', "sh") if before else ()


def run(*command: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*elsewhere(before), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE / 4,
        check=False,
        errors="replace",
    )


def refused(*command: str, before: str = "", loads: bool = False) -> str:
    """The only line that this command prints, ending with status 1. `loads`: it may have tried BPF programs before."""
    newest = newest_program()
    done = run(*command, before=before)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr.rstrip("\n")
    assert line.isprintable()
    assert line.startswith("pwru: ")
    assert len(line) < 400
    # Ids of programs are not used again, so the difference is how many were loaded in between.
    assert loads or newest_program() == newest + 1, "a program was loaded before the error was found"
    return line


def newest_program() -> int:
    """The id of a program that is loaded for this."""
    fd = libbpf.prog_load(libbpf.BPF_PROG_TYPE_KPROBE, RETURN_0)
    try:
        return max(ids("prog"))
    finally:
        os.close(fd)


@contextmanager
def working(folder: Path, *arguments: str, before: str = "") -> Iterator[Trace]:
    """A trace in a changed place, all the way to its ordinary end."""
    with Trace(folder, arguments, launcher=elsewhere(before)) as trace:
        yield trace
        assert trace.stop() == 0
