"""Boots one kernel in QEMU, runs one command in it and says what came of it.

The guest has the checkout at /pwru (a copy: what is written there is lost), the installed product
and its Python packages under /opt, and an empty folder /out whose content comes back. `init` and
`start`, beside this file, are the guest's side.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vmtest import cache, fetch, product, rootfs
from vmtest.arches import ARCHES
from vmtest.errors import VmtestError
from vmtest.kernels import Kernel
from vmtest.product import CHECKOUT

LOGS = CHECKOUT / "build/vmtest"
TIMED_OUT, FAILED = 124, 125  # exit statuses, as those of timeout(1) and env(1)
TAIL = 1 << 16  # bytes that are kept of a stream that is echoed
# Emulated CPUs that run side by side can miss that the kernel changes its code: they run into a breakpoint that is not
# there any more, of which the kernel knows nothing. That is seen once in about fifty boots, which are done again then,
# and once in some hours of attaching probes.
EMULATIONS_FAULT = "Oops: int3"
BOOTS = 3


# Nobody waits for a timer: time goes on at once to when it fires.
ONE_CPU = ("-accel", "tcg,thread=single,tb-size=512", "-smp", "1", "-icount", "shift=0,sleep=off")
# loglevel=5 shows warnings, which the log is scanned for; a busy host must not look like a stuck
# kernel, so no watchdogs.
KERNEL_COMMAND_LINE = (
    "console={} loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on "
    "nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
)
# The verifier of some kernels, v6.18 among them, follows branches that cannot be taken, of filters that contradict
# themselves, and warns once of a register's range there; the program is loaded. It is known: "bpf: Fix invariant
# violations and improve branch detection" (2026).
COMPLAINT = re.compile(r"WARNING:(?!.* reg_bounds_sanity_check)|BUG:|Oops|Kernel panic")
NOT_IN_GUEST = {
    *(".git", ".venv", "build", "dist", "pwru.bpf.o"),
    *("__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
}


@dataclass(frozen=True)
class Result:
    """What a command did in a guest.

    `status` is its exit status, or TIMED_OUT or FAILED with the reason in `error`. `boot` is the
    time in seconds until the command started, `seconds` that of all. Of a stream that was echoed,
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
        """Whether it may have failed for that only."""
        return EMULATIONS_FAULT in (self.error or "")

    def check(self) -> "Result":
        """Itself; raises VmtestError unless the command succeeded."""
        if self.status:
            last = self.stderr.strip().splitlines()[-1:] or [f"exit status {self.status}"]
            raise VmtestError(f"Linux {self.kernel.name}: {self.error or last[0]}")
        return self


def run(
    kernel: Kernel,
    command: str | None,
    *,
    smp: int = 2,
    memory_mb: int = 2048,
    timeout: float | None = 300,
    out: Path | None = None,
    echo: bool = False,
    each_line: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
    bare: bool = False,
    icount: bool = False,
) -> Result:
    """Run a shell command in a guest; None is an interactive shell on this terminal.

    `timeout` is in seconds and includes the boot. What the guest leaves in /out is put into `out`.
    With `echo` the command's output also goes to our stdout and stderr as it comes; `each_line` is
    called with each line of stdout, from another thread. Once `stop` is set the guest is ended. A `bare`
    guest has the checkout but not the installed product, which then need not be buildable. With `icount` time is
    what was executed: one CPU runs an instruction in a nanosecond, so that what is timed can be repeated exactly.
    Raises VmtestError when the guest cannot be prepared or started, BrokenPipeError when nobody reads the echo.
    """
    machine = ARCHES[kernel.arch]
    qemu = shutil.which(machine.qemu)
    if not qemu:
        raise VmtestError(f"{machine.qemu} is missing: apt-get install {machine.package}")
    linux, root, packages, wheel = prepare(kernel, bare)
    began = time.monotonic()
    for boot in range(1, BOOTS + 1):
        with tempfile.TemporaryDirectory(prefix="vmtest-") as tmp:
            initramfs, log = Path(tmp, "initramfs"), Path(tmp, "console")
            initramfs.write_bytes(b"".join(_initramfs(kernel, linux, root, wheel, command)))
            log.touch()
            streams = {
                "stdout": _Stream(sys.stdout if echo else None, each_line),
                "stderr": _Stream(sys.stderr if echo else None),
                "status": _Stream(None),
                "files": _Stream(None),
            }
            arguments = [
                *(qemu, "-M", machine.machine, "-cpu", machine.cpu, "-m", str(memory_mb)),
                *(ONE_CPU if icount else ("-accel", "tcg,thread=multi,tb-size=512", "-smp", str(smp))),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-kernel", str(linux / "vmlinuz"), "-initrd", str(initramfs)),
                *("-append", KERNEL_COMMAND_LINE.format(machine.console), "-serial", f"file:{log}"),
                *("-device", "virtio-serial-pci"),
            ]
            for image in (root / "root.img", linux / "modules.img", packages / "packages.img"):
                arguments += ["-drive", f"file={image},format=raw,if=virtio,readonly=on"]
            if command is None:
                arguments += ["-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty"]
            for name, stream in streams.items():
                arguments += [
                    *("-chardev", f"file,id={name},path=/dev/fd/{stream.writer}"),
                    *("-device", f"virtserialport,chardev={name},name={name}"),
                ]
            error = _qemu(arguments, list(streams.values()), timeout, stop, on_terminal=command is None)
            console = log.read_text(errors="replace").replace("\r", "")
        if streams["status"].first or boot == BOOTS or not (complaint := complaints(console)):
            break
        cache.say(f"Linux {kernel.name}: {complaint[0]} before the command began; booting again")

    ended = re.search(r"^exit (\d+)$", streams["status"].text(), re.MULTILINE)
    status = int(ended[1]) if ended and not error else FAILED
    if error and error.startswith("timed out"):
        status = TIMED_OUT
    elif complaint := complaints(console):
        status, error = FAILED, f"the kernel complained: {complaint[0]}"
    elif not ended and not error:
        error = "the guest ended without an exit status of the command"
    if out is not None and ended:
        _unpack(streams["files"].kept, out)
    if status:
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / f"console-{kernel.name}.log").write_text(console)
    return Result(
        kernel=kernel,
        status=status,
        error=error,
        stdout=streams["stdout"].text(),
        stderr=streams["stderr"].text(),
        console=console,
        log=LOGS / f"console-{kernel.name}.log" if status else None,
        boot=(streams["status"].first or time.monotonic()) - began,
        seconds=time.monotonic() - began,
    )


def prepare(kernel: Kernel, bare: bool = False) -> tuple[Path, Path, Path, Path | None]:
    """The folders of what a guest is made of, fetched and built if need be: see the modules that they come from."""
    arch = kernel.arch
    return fetch.linux(kernel), rootfs.root(arch), product.packages(arch), None if bare else product.wheel(arch)


def _unpack(archive: bytearray, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    # tarfile has no safe filter in Debian 12's Python
    tar = ["tar", "--extract", "--no-same-owner", "--touch", "--directory", str(to)]  # a guest's clock can be ahead
    if error := subprocess.run(tar, input=archive, stderr=subprocess.PIPE, check=False).stderr:
        raise VmtestError(f"what the guest left in /out cannot be unpacked: {error.decode(errors='replace').strip()}")


def complaints(console: str) -> list[str]:
    """The lines of a kernel's log that no run may leave, without their time stamps."""
    lines = (re.sub(r"^\[ *[0-9.]+\] ", "", line) for line in console.splitlines())
    return [line for line in lines if COMPLAINT.search(line)]


class _Stream:
    """One pipe from the guest, read by a thread to its end."""

    def __init__(self, echo: TextIO | None, each_line: Callable[[str], None] = lambda _: None) -> None:
        self._reader, self.writer = os.pipe()
        self._echo = echo
        self._each_line = each_line
        self._thread = threading.Thread(target=self._read)
        self.kept = bytearray()
        self.first: float | None = None  # time.monotonic() of the first byte
        self.broken = False  # nobody reads the echo any more

    def start(self) -> None:
        """QEMU has the writing end: read until it is gone."""
        os.close(self.writer)
        self._thread.start()

    def _read(self) -> None:
        line = b""
        with open(self._reader, "rb", buffering=0) as pipe:
            while block := pipe.read(TAIL):
                self.first = self.first or time.monotonic()
                self.kept += block
                *lines, line = (line + block).split(b"\n")
                for complete in lines:
                    self._each_line(complete.decode(errors="replace"))
                if self._echo:
                    del self.kept[:-TAIL]
                    try:
                        self._echo.buffer.write(block)
                        self._echo.flush()
                    except BrokenPipeError:
                        self.broken = True
                        return  # closes the pipe, on which the guest then waits until it is ended

    def join(self) -> None:
        self._thread.join()

    def text(self) -> str:
        return self.kept.decode(errors="replace")


def _qemu(
    arguments: list[str],
    streams: list[_Stream],
    timeout: float | None,
    stop: threading.Event | None,
    on_terminal: bool,
) -> str | None:
    """Run QEMU until the guest has powered off; what went wrong with it, or None."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],  # no guest is to outlive us
            stdin=None if on_terminal else subprocess.DEVNULL,
            stdout=None if on_terminal else subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[stream.writer for stream in streams],
        )
        try:
            for stream in streams:
                stream.start()
            end = time.monotonic() + (timeout or float("inf"))
            while process.poll() is None:
                if time.monotonic() > end:
                    return f"timed out after {timeout:.0f} s"
                if stop and stop.is_set():
                    return "ended from outside"
                if any(stream.broken for stream in streams):
                    raise BrokenPipeError
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
            for stream in streams:
                stream.join()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        return f"QEMU failed: {lines[-1] if lines else process.returncode}" if process.returncode else None


def _initramfs(kernel: Kernel, linux: Path, root: Path, wheel: Path | None, command: str | None) -> Iterator[bytes]:
    """The pieces of a cpio archive: `init`, early modules, and under job/ what is laid over the root."""
    here = Path(__file__).parent
    yield from _directories("bin", "early", "job/opt", "job/pwru", "job/usr/local/bin", "job/vmtest")
    yield _cpio("init", 0o100755, (here / "init").read_bytes())
    yield _cpio("bin/busybox", 0o100755, _busybox(root))
    for module in (linux / "early").iterdir():
        yield _cpio(f"early/{module.name}", 0o100644, module.read_bytes())
    yield _cpio("job/vmtest/start", 0o100644, (here / "start").read_bytes())
    yield _cpio("job/vmtest/environment", 0o100644, _environment(kernel).encode())
    if command is not None:
        yield _cpio("job/vmtest/command", 0o100644, f"{command}\n".encode())
    yield from _tree(CHECKOUT, "job/pwru", NOT_IN_GUEST)
    if wheel:
        yield from _directories("job/opt/pwru")
        yield from _tree(wheel / "site", "job/opt/pwru", set())
        yield from _tree(wheel / "bin", "job/usr/local/bin", set())
    yield _cpio("TRAILER!!!", 0)


def _environment(kernel: Kernel) -> str:
    size = shutil.get_terminal_size()
    values = {
        "VMTEST_KERNEL": kernel.name,
        # the product before the checkout, which is there for the tests and tools in it
        "PYTHONPATH": "/opt/pwru:/opt/packages:/pwru",
        "PYTHONSAFEPATH": "1",  # else `python -m` in /pwru takes the checkout instead of the product
        "PYTEST_ADDOPTS": "--import-mode=importlib -p no:cacheprovider "  # so would pytest
        "-o verbosity_assertions=2",  # cuts nothing off
        "TERM": os.environ.get("TERM", "dumb"),
        "VMTEST_SIZE": f"rows {size.lines} cols {size.columns}",
    }
    return "".join(f"export {name}='{value}'\n" for name, value in values.items())


def _busybox(root: Path) -> bytes:
    other = root / "busybox"  # of another architecture
    busybox = other if other.exists() else shutil.which("busybox")
    content = Path(busybox).read_bytes() if busybox else b"/ld-linux"
    if b"/ld-linux" in content[:4096]:  # asks for a dynamic loader, which the initramfs lacks
        raise VmtestError("a static busybox is missing: apt-get install busybox-static")
    return content


def _tree(tree: Path, at: str, leave_out: set[str]) -> Iterator[bytes]:
    for path in sorted(tree.iterdir()):
        if path.name in leave_out:
            continue
        name, mode = f"{at}/{path.name}", path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield _cpio(name, mode)
            yield from _tree(path, name, leave_out)
        elif stat.S_ISLNK(mode):
            yield _cpio(name, mode, os.readlink(path).encode())
        elif stat.S_ISREG(mode):
            yield _cpio(name, mode, path.read_bytes())


def _directories(*names: str) -> Iterator[bytes]:
    made = set()
    for name in names:
        for path in [*reversed(Path(name).parents), Path(name)][1:]:
            if path not in made:
                made.add(path)
                yield _cpio(str(path), 0o040755)


def _cpio(name: str, mode: int, data: bytes = b"") -> bytes:
    """One member of a "newc" archive (linux/Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
