"""Boots one kernel in QEMU, runs one command in it and returns what came of it.

The guest has the checkout at /pwru (a copy: what is written there is lost), the installed product
and its Python packages under /opt, and an empty folder /out whose content comes back. `init` and
`start`, beside this file, are the guest's side.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vmtest import cache, fetch, initramfs, product, qemu, rootfs
from vmtest.arches import ARCHES
from vmtest.errors import VmtestError
from vmtest.kernels import Kernel
from vmtest.product import CHECKOUT
from vmtest.qemu import Stream

LOGS = CHECKOUT / "build/vmtest"
TIMED_OUT, FAILED = 124, 125  # exit statuses, as those of timeout(1) and env(1)
# Emulated CPUs that run side by side can miss that the kernel changes its code: they run into a breakpoint that the
# kernel has removed and no longer knows. About one boot in fifty fails so, and is repeated; attaching probes fails so
# once in some hours.
EMULATIONS_FAULT = "Oops: int3"
BOOTS = 3
# The verifier of some kernels, v6.18 among them, follows branches that cannot be taken, of filters that contradict
# themselves, and warns once about a register's range there; the program is loaded. It is known: "bpf: Fix invariant
# violations and improve branch detection" (2026).
COMPLAINT = re.compile(r"WARNING:(?!.* reg_bounds_sanity_check)|BUG:|Oops|Kernel panic")


@dataclass(frozen=True)
class Guest:
    """A virtual machine and the one shell command that it runs; None is an interactive shell on this terminal.

    `timeout` is in seconds and includes the boot. A `bare` guest has the checkout but not the installed product, which
    then need not be buildable. `disks` are images that it has as /dev/vdd and so on, read-only. With `icount`, time is
    what was executed: one CPU runs an instruction in a nanosecond, so that what is timed can be repeated exactly.
    """

    kernel: Kernel
    command: str | None
    smp: int = 2
    memory_mb: int = 2048
    timeout: float | None = 300
    bare: bool = False
    disks: tuple[Path, ...] = ()
    icount: bool = False


class Parts(NamedTuple):
    """The cache folders of what a guest is made of: see the modules that make them."""

    linux: Path
    root: Path
    packages: Path
    wheel: Path | None


@dataclass(frozen=True)
class Result:
    """The outcome of a command in a guest.

    `status` is its exit status, or TIMED_OUT or FAILED with the reason in `error`. `boot` is the
    time in seconds until the command started, `seconds` the whole time. Of a stream that was echoed,
    only the last 64 KB are here. `log` is where the console is kept when the status is not 0.
    """

    kernel: Kernel
    status: int
    error: str | None
    stdout: str
    stderr: str
    console: str
    log: Path | None
    boot: float
    seconds: float

    @property
    def is_emulations_fault(self) -> bool:
        """Return True if the emulation may be the only reason for the failure."""
        return EMULATIONS_FAULT in (self.error or "")

    def check(self) -> "Result":
        """Return itself. Raises VmtestError unless the command succeeded."""
        if self.status:
            last = self.stderr.strip().splitlines()[-1:] or [f"exit status {self.status}"]
            raise VmtestError(f"Linux {self.kernel.name}: {self.error or last[0]}")
        return self


def run(
    guest: Guest,
    *,
    out: Path | None = None,
    echo: bool = False,
    each_line: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Result:
    """Boot a guest and run its command. What it leaves in /out is put into `out`.

    With `echo` the command's output also goes to our stdout and stderr as it comes; `each_line` is
    called with each line of stdout, from another thread. Once `stop` is set the guest is ended.
    Raises VmtestError when the guest cannot be prepared or started, BrokenPipeError when nobody reads the echo.
    """
    kernel, arch = guest.kernel, ARCHES[guest.kernel.arch]
    if not shutil.which(arch.qemu):
        raise VmtestError(f"{arch.qemu} is missing: apt-get install {arch.package}")
    parts = prepare(kernel, guest.bare)
    began = time.monotonic()
    for boot in range(1, BOOTS + 1):
        streams = {
            "stdout": Stream(sys.stdout if echo else None, each_line),
            "stderr": Stream(sys.stderr if echo else None),
            "status": Stream(),
            "files": Stream(),
        }
        error, console = _boot(guest, parts, streams, stop)
        if streams["status"].first or boot == BOOTS or not (complaint := complaints(console)):
            break
        cache.say(f"Linux {kernel.name}: {complaint[0]} before the command began; booting again")
    reported = streams["status"].text()
    status, error = _verdict(reported, error, console)
    if out is not None and _exit_status(reported) is not None:
        _unpack(streams["files"].kept, out)
    log = LOGS / f"console-{kernel.name}.log" if status else None
    if log:
        LOGS.mkdir(parents=True, exist_ok=True)
        log.write_text(console)
    return Result(
        kernel=kernel,
        status=status,
        error=error,
        stdout=streams["stdout"].text(),
        stderr=streams["stderr"].text(),
        console=console,
        log=log,
        boot=(streams["status"].first or time.monotonic()) - began,
        seconds=time.monotonic() - began,
    )


def prepare(kernel: Kernel, bare: bool = False) -> Parts:
    """Return what a guest is made of, fetched and built if need be."""
    arch = kernel.arch
    parts = fetch.linux(kernel), rootfs.root(arch), product.packages(arch)
    return Parts(*parts, None if bare else product.wheel(arch))


def _boot(
    guest: Guest, parts: Parts, streams: Mapping[str, Stream], stop: threading.Event | None
) -> tuple[str | None, str]:
    """Boot once. Return what went wrong with QEMU, or None, and the console."""
    job = {"environment": _environment(guest.kernel)}
    if guest.command is not None:
        job["command"] = f"{guest.command}\n"
    other = parts.root / "busybox"  # of another architecture
    busybox = other if other.exists() else None
    with tempfile.TemporaryDirectory(prefix="vmtest-") as tmp:
        initrd, log = Path(tmp, "initramfs"), Path(tmp, "console")
        early = parts.linux / "early"
        initrd.write_bytes(initramfs.archive(job, CHECKOUT, early, busybox=busybox, wheel=parts.wheel))
        log.touch()
        ports = {name: stream.writer for name, stream in streams.items()}
        arguments = command_line(guest, parts, initrd, log, ports)
        terminal = guest.command is None
        error = qemu.run(arguments, streams.values(), timeout=guest.timeout, stop=stop, on_terminal=terminal)
        return error, log.read_text(errors="replace").replace("\r", "")


def command_line(guest: Guest, parts: Parts, initrd: Path, log: Path, ports: Mapping[str, int]) -> list[str]:
    """Return the words that start QEMU. `log` gets the console, `ports` are file descriptors by name."""
    arch = ARCHES[guest.kernel.arch]
    words = [
        *(arch.qemu, "-M", arch.machine, "-cpu", arch.cpu, "-m", str(guest.memory_mb)),
        *(qemu.ONE_CPU if guest.icount else (*qemu.CPUS, str(guest.smp))),
        *qemu.PLAIN,
        *("-kernel", str(parts.linux / "vmlinuz"), "-initrd", str(initrd)),
        *("-append", qemu.KERNEL_COMMAND_LINE.format(arch.console), "-serial", f"file:{log}"),
        *("-device", "virtio-serial-pci"),
    ]
    # `init` finds the disks in this order
    own = (parts.root / "root.img", parts.linux / "modules.img", parts.packages / "packages.img")
    for image in (*own, *guest.disks):
        words += ["-drive", f"file={image},format=raw,if=virtio,readonly=on"]
    if guest.command is None:
        words += ["-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty"]
    for name, fd in ports.items():
        words += ["-chardev", f"file,id={name},path=/dev/fd/{fd}"]
        words += ["-device", f"virtserialport,chardev={name},name={name}"]
    return words


def _environment(kernel: Kernel) -> str:
    size = shutil.get_terminal_size()
    values = {
        "VMTEST_KERNEL": kernel.name,
        # the product before the checkout, which has the tests and tools
        "PYTHONPATH": "/opt/pwru:/opt/packages:/pwru",
        "PYTHONSAFEPATH": "1",  # else `python -m` in /pwru takes the checkout instead of the product
        "PYTEST_ADDOPTS": "--import-mode=importlib -p no:cacheprovider "  # so would pytest
        "-o verbosity_assertions=2",  # cuts nothing off
        "TERM": os.environ.get("TERM", "dumb"),
        "VMTEST_SIZE": f"rows {size.lines} cols {size.columns}",
    }
    return "".join(f"export {name}='{value}'\n" for name, value in values.items())


def _verdict(reported: str, error: str | None, console: str) -> tuple[int, str | None]:
    """Return the status and the error of a run, whose port `status` got `reported`."""
    status = _exit_status(reported)
    if error and error.startswith("timed out"):
        return TIMED_OUT, error
    if complaint := complaints(console):
        return FAILED, f"the kernel complained: {complaint[0]}"
    if error:
        return FAILED, error
    return (FAILED, "the guest ended without an exit status of the command") if status is None else (status, None)


def _exit_status(reported: str) -> int | None:
    ended = re.search(r"^exit (\d+)$", reported, re.MULTILINE)
    return int(ended[1]) if ended else None


def _unpack(archive: bytearray, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    # tarfile has no safe filter in Debian 12's Python
    tar = ["tar", "--extract", "--no-same-owner", "--touch", "--directory", str(to)]  # a guest's clock can be ahead
    if error := subprocess.run(tar, input=archive, stderr=subprocess.PIPE, check=False).stderr:
        raise VmtestError(f"what the guest left in /out cannot be unpacked: {error.decode(errors='replace').strip()}")


def complaints(console: str) -> list[str]:
    """Return the lines of a kernel's log that no run may leave, without their time stamps."""
    lines = (re.sub(r"^\[ *[0-9.]+\] ", "", line) for line in console.splitlines())
    return [line for line in lines if COMPLAINT.search(line)]
