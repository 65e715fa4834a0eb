"""One run of a tracer in a guest: started, watched from outside, ended."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

READY = "Listening for events"  # printed by both tools, on stderr
KPROBE_EVENTS = Path("/sys/kernel/tracing/kprobe_events")


@dataclass(frozen=True)
class Tool:
    """A tracer: its name in the tables, and its command, to which a pcap filter is added."""

    name: str
    command: tuple[str, ...]


class Trace:
    """A running tracer, whose output goes to a file; a context manager that is entered when the tracer is ready.

    Times are those of time.monotonic(). Raises RuntimeError, with the tool's messages, if it ends before it is ready.
    """

    def __init__(self, tool: Tool, pcap_filter: str, *flags: str) -> None:
        self._command = [*tool.command, *flags, pcap_filter]
        self.ready = 0.0
        self.messages: list[tuple[float, str]] = []  # lines of stderr with their times
        self._ready_or_ended = threading.Event()
        self._seen = self._lines = 0  # bytes and lines of output

    def __enter__(self) -> Self:
        self.output = tempfile.TemporaryFile("a+b")  # appending: reading must not move the position that it writes at
        self.began = time.monotonic()
        self._process = subprocess.Popen(self._command, stdout=self.output, stderr=subprocess.PIPE)
        self._pid = self._process.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._ready_or_ended.wait()
        if not self.ready:
            last = "; ".join(line for _, line in self.messages[-3:])
            raise RuntimeError(f"{self._command[0]} ended with status {self._process.wait()}: {last}")
        return self

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self.messages.append((time.monotonic(), line.decode(errors="replace").strip()))
            if READY.encode() in line:
                self.ready = self.messages[-1][0]
                self._ready_or_ended.set()
        self._ready_or_ended.set()

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End it as Ctrl-C does, and wait until its probes are removed, so that the next trace starts without them."""
        asked = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        gone = time.monotonic()
        self.seconds_to_exit = gone - asked
        self._reader.join()
        while KPROBE_EVENTS.exists() and KPROBE_EVENTS.read_bytes():
            time.sleep(0.2)
        self.seconds_to_remove = time.monotonic() - gone

    def lines(self) -> int:
        """Return the number of lines of output so far."""
        while block := os.pread(self.output.fileno(), 1 << 20, self._seen):
            self._seen += len(block)
            self._lines += block.count(b"\n")
        return self._lines

    def wait(self, lines: float, seconds: float = 1) -> int:
        """Wait for this many lines, or until none has come for so many seconds. Return the number of lines."""
        last, changed = self.lines(), time.monotonic()
        while last < lines and time.monotonic() < changed + seconds:
            time.sleep(0.02)
            if (now := self.lines()) != last:
                last, changed = now, time.monotonic()
        return last

    def cpu_us(self) -> float:
        """Return the CPU time so far, user and system, in µs: proc_pid_stat(5)."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Return the peak of the resident memory, plus the private memory of helper processes, in MB."""
        kb = _kb(f"/proc/{self._pid}/status", "VmHWM")
        for children in Path(f"/proc/{self._pid}/task").glob("*/children"):
            kb += sum(
                _kb(f"/proc/{pid}/smaps_rollup", "Private_(?:Clean|Dirty)") for pid in children.read_text().split()
            )
        return kb * 1024 / 1e6


def _kb(file: str, field: str) -> int:
    return sum(int(kb) for kb in re.findall(rf"^{field}:\s*(\d+) kB", Path(file).read_text(), re.MULTILINE))
