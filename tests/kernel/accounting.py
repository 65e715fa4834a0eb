"""Traffic whose hits are known, and the kernel's own figures about the programs that count them.

What is traced is passed once by every packet, and while it is received: nothing interrupts that to bring other packets,
so no hit is missed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vmtest.network import sh
from vmtest.udp import PORT

from .backends import BACKENDS
from .leftovers import ids


def once_each(backend: str = BACKENDS[0]) -> tuple[str, ...]:
    """Three hits a packet; what they match is not the ICMP errors, of which only some are sent."""
    functions = (
        "net_dev_queue|netif_rx|netif_receive_skb" if backend == "tracepoint" else "ip_rcv|ip_local_deliver|udp_rcv"
    )
    return "--backend", backend, "--filter-func", functions, f"udp dst port {PORT}"


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """The kernel counts how often it runs each program."""
    file = Path("/proc/sys/kernel/bpf_stats_enabled")
    file.write_text("1")
    yield
    file.write_text("0")


@dataclass
class Programs:
    """What the kernel says of the programs that have been loaded since this was made."""

    before: list[int] = field(default_factory=lambda: ids("prog"))

    def sum(self, key: str) -> int:
        programs = json.loads(sh("bpftool", "-j", "prog", "show").stdout)
        return sum(int(program.get(key, 0)) for program in programs if program["id"] not in self.before)

    def missed(self) -> int:
        """With what it counts for links and kprobes, of which there are none but those of the trace."""
        links = json.loads(sh("bpftool", "-j", "link", "show").stdout)
        profile = Path("/sys/kernel/tracing/kprobe_profile").read_text().splitlines()
        return (
            self.sum("recursion_misses")
            + sum(int(link.get("missed", 0)) for link in links)
            + sum(int(line.split()[-1]) for line in profile)
        )
