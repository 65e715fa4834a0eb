"""What tracers have in the kernel, and what they may leave behind."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from pathlib import Path

from vmtest.network import sh

PATIENCE = 120.0
# For what a user must not feel as waiting; ten times what it takes in an idle guest.
PROMPT = 10.0

TRACEFS = Path("/sys/kernel/tracing")
COMMAND = "/usr/local/bin/pwru"


def ids(kind: str) -> list[int]:
    """The ids of all BPF objects of this kind: `prog`, `map` or `link`."""
    next_id = ctypes.CDLL("libbpf.so.1")[f"bpf_{kind}_get_next_id"]
    last, existing = ctypes.c_uint32(0), []
    while next_id(last, ctypes.byref(last)) == 0:
        existing.append(last.value)
    return existing


def probes() -> list[str]:
    """The probes of tracers in kprobe_events, as GROUP/EVENT and the place."""
    lines = (TRACEFS / "kprobe_events").read_text().splitlines()
    return [line.partition(":")[2] for line in lines if ":pwru_" in line]


def processes() -> list[int]:
    """The PIDs of tracers and of their children."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if COMMAND.encode() in words[:2]:
            pids.append(int(path.parent.name))
    return sorted(pids)


def traces() -> dict[str, object]:
    """Everything that a tracer has in the kernel, or may leave behind."""
    return {
        "probes": probes(),
        "programs": ids("prog"),
        "links": ids("link"),
        "maps": ids("map"),
        "groups of events": [path.name for path in (TRACEFS / "events").glob("pwru_*")],
        "processes": processes(),
    }


def hits() -> int:
    """The hits that the program of the running tracer has counted so far."""
    (element,) = json.loads(sh("bpftool", "--json", "map", "dump", "name", "counters").stdout)
    return sum(int(of_cpu["value"]["hits"]) for of_cpu in element["formatted"]["values"])


def wait_for(condition: Callable[[], bool], state: Callable[[], object] = traces) -> None:
    """Wait until the condition holds; after PATIENCE seconds, fail and show the state."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE} s: {state()}"
        time.sleep(0.02)
