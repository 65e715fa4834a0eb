"""QEMU as a process: what it emulates, the pipes that the guest writes to, and how it ends."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

TAIL = 1 << 16  # bytes that are kept of a stream that is echoed
# Software emulation: /dev/kvm does not exist everywhere, and where it does, it may not boot these kernels.
# The CPUs take turns: side by side they ran into breakpoints that the kernel had already removed (Oops: int3).
CPUS = ("-accel", "tcg,thread=single,tb-size=512", "-smp")
# One instruction takes one nanosecond. Nobody waits for a timer: time jumps to when the next one fires.
ONE_CPU = ("-accel", "tcg,thread=single,tb-size=512", "-smp", "1", "-icount", "shift=0,sleep=off")
PLAIN = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
# loglevel=5 shows warnings, which the log is searched for. A busy host must not look like a stuck kernel, so there are
# no watchdogs. Grace periods of RCU are short: without kprobe-multi, to remove the probes of all functions takes 15
# seconds rather than 51, and the next test waits for that.
KERNEL_COMMAND_LINE = (
    "console={} loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on "
    "nowatchdog rcupdate.rcu_cpu_stall_suppress=1 rcupdate.rcu_expedited=1"
)


class Stream:
    """One pipe from the guest, read by a thread to its end."""

    def __init__(self, echo: TextIO | None = None, each_line: Callable[[str], None] = lambda _: None) -> None:
        self._reader, self.writer = os.pipe()
        self._echo = echo
        self._each_line = each_line
        self._thread = threading.Thread(target=self._read)
        self.kept = bytearray()
        self.first: float | None = None  # time.monotonic() of the first byte
        self.broken = False  # nobody reads the echo any more

    def start(self) -> None:
        """Close our writing end, of which QEMU has a copy, and read until that is closed, too."""
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


def run(
    arguments: Iterable[str],
    streams: Iterable[Stream],
    *,
    timeout: float | None,
    stop: threading.Event | None,
    on_terminal: bool,
) -> str | None:
    """Run QEMU until the guest has powered off. Return what went wrong with it, or None."""
    streams = list(streams)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],  # no guest may outlive us
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
