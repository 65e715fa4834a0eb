"""Switches of the kernel with which probes attach and never fire, or programs do not load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwru.kernel import features
from vmtest.network import Network, sh

from .backends import BACKENDS, btf, narrow
from .refusals import refused, run
from .tracing import Start

pytestmark = [pytest.mark.three_kernels, pytest.mark.usefixtures("nothing_left")]

FTRACE, JIT = Path("/proc/sys/kernel/ftrace_enabled"), Path("/proc/sys/net/core/bpf_jit_enable")
FTRACE_OFF = "ftrace is switched off, and no probe would fire; sysctl kernel.ftrace_enabled=1 switches it on"
KPROBES_OFF = f"kprobes are switched off, and none would fire; echo 1 >{features.KPROBES_ENABLED} switches them on"
BY_FTRACE = [name for name in BACKENDS if name not in ("kprobe", "tracepoint")]


@contextmanager
def switched_off(switch: Path) -> Iterator[None]:
    before = switch.read_text()
    switch.write_text("0")
    try:
        yield
    finally:
        switch.write_text(before)


@pytest.fixture
def kprobes() -> Path:
    path = Path(features.KPROBES_ENABLED)
    if not path.exists():
        sh("mount", "-t", "debugfs", "nodev", "/sys/kernel/debug")
    return path


def test_without_ftrace(network: Network, pwru: Start) -> None:
    """kprobe puts its probes after the instruction that ftrace patches, unless a whole stack is wanted."""
    with switched_off(FTRACE):
        for backend in BY_FTRACE:
            assert refused("pwru", *narrow(backend), loads=True).endswith(f"{backend}: {FTRACE_OFF}")
        assert refused("pwru", *narrow("kprobe"), "--output-stack", loads=True).endswith(f"kprobe: {FTRACE_OFF}")
        with pwru(*narrow("kprobe")[2:], "icmp") as trace:
            network.ping()
            trace.wait_for_func("icmp_rcv")
            assert trace.stop() == 0
        assert trace.err.count(FTRACE_OFF) == (BACKENDS[0] != "kprobe")
        report = " ".join(run("pwru", "--check").stdout.split())
        assert report.count(FTRACE_OFF) == 1
    with pwru(*narrow(BY_FTRACE[0]), "icmp") as trace:
        network.ping()
        trace.wait_for_func("icmp_rcv")


def test_without_kprobes(network: Network, pwru: Start, kprobes: Path) -> None:
    with switched_off(kprobes):
        assert refused("pwru", *narrow("kprobe"), loads=True).endswith(f"kprobe: {KPROBES_OFF}")
        with pwru(*narrow(BY_FTRACE[0]), "icmp") as trace:
            network.ping()
            trace.wait_for_func("icmp_rcv")


def test_without_the_compiler(network: Network, pwru: Start) -> None:
    """Programs that call no function of the kernel are interpreted."""
    with switched_off(JIT):
        if features.rdonly_cast(btf()):
            line = refused("pwru", *narrow("tracepoint"), loads=True)
            assert line.endswith("is switched off; sysctl net.core.bpf_jit_enable=1 switches it on")
        else:
            with pwru(*narrow("tracepoint"), "icmp") as trace:
                network.ping()
                trace.wait_for_func("consume_skb")
