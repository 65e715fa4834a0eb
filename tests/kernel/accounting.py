"""Traces whose number of hits is known, and the kernel's own statistics of their programs.

Each packet passes the traced functions once, while it is received. Nothing interrupts that to deliver other packets, so
no hit is missed.
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
    """Flags for three hits per packet. They do not match the ICMP errors, of which the kernel sends only some."""
    functions = (
        "net_dev_queue|netif_rx|netif_receive_skb" if backend == "tracepoint" else "ip_rcv|ip_local_deliver|udp_rcv"
    )
    return "--backend", backend, "--filter-func", functions, f"udp dst port {PORT}"


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Let the kernel count how often it runs each program."""
    file = Path("/proc/sys/kernel/bpf_stats_enabled")
    file.write_text("1")
    yield
    file.write_text("0")


@dataclass
class Programs:
    """The kernel's statistics of the programs loaded since this object was created."""

    before: list[int] = field(default_factory=lambda: ids("prog"))

    def sum(self, key: str) -> int:
        programs = json.loads(sh("bpftool", "-j", "prog", "show").stdout)
        return sum(int(program.get(key, 0)) for program in programs if program["id"] not in self.before)

    def missed(self) -> int:
        """Includes the counts per link and per kprobe: all of them are the trace's."""
        links = json.loads(sh("bpftool", "-j", "link", "show").stdout)
        profile = Path("/sys/kernel/tracing/kprobe_profile").read_text().splitlines()
        return (
            self.sum("recursion_misses")
            + sum(int(link.get("missed", 0)) for link in links)
            + sum(int(line.split()[-1]) for line in profile)
        )
