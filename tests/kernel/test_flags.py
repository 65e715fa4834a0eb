"""Flags without a test elsewhere: each test would fail if its flag did nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtest.network import Network, sh
from vmtest.udp import send_udp

from .leftovers import PATIENCE
from .tracing import Start

pytestmark = pytest.mark.one_kernel

ESCAPE = "\x1b["


def test_color(network: Network, pwru: Start) -> None:
    """In a file only on request. --set-percpu-buf is accepted, because scripts for the Go tool pass it."""
    arguments = ("--set-percpu-buf", "4096", "--filter-func", "icmp_rcv", "--output-limit-lines=1", "icmp")
    with pwru("--color=always", *arguments) as always, pwru(*arguments) as auto:
        network.ping()
        for trace in (always, auto):
            trace.wait_until_it_ends()
    header, row = always.out.splitlines()
    assert header.startswith(f"{ESCAPE}2mSKB")
    assert row.startswith(f"{ESCAPE}1m0x")
    assert ESCAPE not in auto.out


@pytest.fixture
def long_name() -> Iterator[str]:
    """The name of a network namespace that has only a loopback device."""
    name = "name-of-fourteen-and-more"
    sh("ip", "netns", "add", name)
    sh("ip", "-n", name, "link", "set", "lo", "up")
    yield name
    sh("ip", "netns", "delete", name)


def test_names_are_cut(network: Network, pwru: Start, long_name: str) -> None:
    arguments = ("--output-netns-names", "--filter-func", "icmp_rcv", "--output-limit-lines=1", "icmp")
    with pwru(*arguments) as whole, pwru("--netns-names-max-length=10", *arguments) as cut:
        network.run(long_name, "ping", "-n", "-c1", "-W5", "127.0.0.1")
        for trace in (whole, cut):
            trace.wait_until_it_ends()
    names = [re.findall(r"name-\S*", trace.out) for trace in (whole, cut)]
    assert [[len(name) for name in printed] for printed in names] == [[16], [10]], names


def test_all_kprobes(network: Network, pwru: Start) -> None:
    """Changes nothing, except that it cannot be combined with --filter-func."""
    with pwru("--all-kprobes", "icmp") as trace:
        network.ping()
        trace.wait_for_func(" icmp_rcv\n")
        assert trace.stop() == 0
    assert len({row["func"] for row in trace.rows()}) > 20
    done = subprocess.run(["pwru", "--all-kprobes", "--filter-func=ip_rcv"], capture_output=True, check=False)
    assert done.returncode == 2


def test_old_files_are_removed(network: Network, pwru: Start, tmp_path: Path) -> None:
    """By number and by age."""
    path = tmp_path / "trace.log"
    old = tmp_path / "trace-2020-01-01T00-00-00.000.log"
    flags = (f"--output-file={path}", "--output-file-max-size=1", "udp and dst port 9999")

    def rotate(*more: str) -> list[Path]:
        before = set(tmp_path.glob("trace-2*"))
        with pwru(*more, *flags) as trace:
            while not set(tmp_path.glob("trace-2*")) - before - {old}:
                send_udp(network, 100)
            assert trace.stop() == 0
        return sorted(tmp_path.glob("trace-2*"))

    old.touch()
    assert rotate()[0] == old
    first = rotate("--output-file-max-age=1")
    assert old not in first
    assert len(first) >= 2
    assert len(rotate("--output-file-max-backups=1")) == 1


# Run pwru, and print the largest number of probes in one write to kprobe_events.
COUNTING = """
import os, sys
write, most = os.write, 0
def counting(fd, data):
    global most
    if data[:2] == b"p:":
        most = max(most, bytes(data).count(b"\\n"))
    return write(fd, data)
os.write = counting
from pwru import cli
status = cli.main()
print(most)
sys.exit(status)
"""


def test_kprobe_batch() -> None:
    for batch in (3, 7):
        flags = ("--backend=kprobe", f"--filter-kprobe-batch={batch}", "--filter-func=ip_.*")
        with subprocess.Popen(
            [sys.executable, "-c", COUNTING, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            assert any("Listening" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert out.splitlines()[-1] == f"{batch}"
