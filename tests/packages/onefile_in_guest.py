"""The one file in a root without Python and libraries, on the guest's kernel; test_onefile.py runs this in guests.

The root is the guest's fifth disk, read-only, with a /tmp from which nothing can be executed.
"""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.leftovers import traces, wait_for
from tests.kernel.tracing import Trace
from vmtest.network import sh

BARE = Path("/bare")
CHROOT = ("chroot", str(BARE))
WRITABLE = ("tmp", "run", "dev/shm")
PORT = 9999
DROPPED = re.compile(rf"127\.0\.0\.1:\d+->127\.0\.0\.1:{PORT}\(udp\) (kfree_skb|sk_skb_reason_drop)")


@pytest.fixture(scope="session", autouse=True)
def bare() -> Iterator[None]:
    BARE.mkdir()
    sh("mount", "-o", "ro", "/dev/vdd", str(BARE))
    for part in ("dev", "proc", "sys"):
        sh("mount", "--rbind", f"/{part}", str(BARE / part))
    for part in ("tmp", "run"):
        sh("mount", "-t", "tmpfs", "-o", "noexec", part, str(BARE / part))
    yield
    sh("umount", "--recursive", "--lazy", str(BARE))


def files() -> list[Path]:
    return sorted(path for part in WRITABLE for path in (BARE / part).rglob("*"))


def running() -> list[str]:
    """The processes that run the one file, whatever they are called."""
    own = (BARE / "usr/local/bin/pwru").stat()
    found = []
    for path in Path("/proc").glob("[0-9]*/exe"):
        try:
            exe = path.stat()
        except OSError:  # of the kernel, or it has ended
            continue
        if (exe.st_dev, exe.st_ino) == (own.st_dev, own.st_ino):
            found.append(path.parent.name)
    return found


def pwru(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CHROOT, "pwru", *arguments], capture_output=True, text=True, check=False)


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"lost", ("127.0.0.1", PORT))


def test_nothing_is_installed() -> None:
    assert not [*BARE.glob("usr/bin/python*"), *BARE.glob("usr/lib/**/libbpf*"), *BARE.glob("usr/lib/**/libpcap*")]


def test_version() -> None:
    done = pwru("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"pwru \d+\.\d+\.\d+\S*\n", done.stdout)


def test_check() -> None:
    done = pwru("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    release = os.uname().release
    assert re.match(rf"pwru \S+  kernel {re.escape(release)} \S+  libbpf \S+", done.stdout)
    assert re.search(r"^  libbpf +yes +bundled with pwru$", done.stdout, re.MULTILINE)
    assert re.search(r"^  PCAP-FILTER +yes$", done.stdout, re.MULTILINE)
    assert re.search(r"^  kprobe +yes", done.stdout, re.MULTILINE)


def test_an_error_is_one_line() -> None:
    done = pwru("foo bar")
    assert done.returncode == 1
    assert re.fullmatch(r"pwru: pcap filter 'foo bar': .*syntax error.*\n", done.stderr)


def test_names_are_taken_from_files() -> None:
    """Not from libraries of the host, which nsswitch.conf names: a port that /etc/services lacks is unknown."""
    done = pwru("--output-limit-lines", "1", "port no-such-service")
    assert done.returncode == 1
    assert re.fullmatch(r"pwru: pcap filter 'port no-such-service': .*no-such-service.*\n", done.stderr)


def test_a_dropped_packet(tmp_path: Path) -> None:
    with Trace(tmp_path, (f"udp and dst port {PORT}",), CHROOT) as trace:
        send()
        trace.wait_for(lambda: bool(DROPPED.search(trace.out)))
        assert trace.stop() == 0
    events, _ = trace.totals()
    assert events == len(trace.rows())


def test_a_ping_of_busybox(tmp_path: Path) -> None:
    if not (BARE / "bin/busybox").exists():
        pytest.skip("for the root with busybox")
    with Trace(tmp_path, ("--filter-func", "icmp_rcv|ip_rcv", "icmp"), CHROOT) as trace:
        sh(*CHROOT, "/bin/busybox", "ping", "-c1", "127.0.0.1")
        trace.wait_for_func(r"127\.0\.0\.1:0->127\.0\.0\.1:0\(icmp\) icmp_rcv")
        assert trace.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(number: signal.Signals, tmp_path: Path) -> None:
    wait_for(lambda: not running())  # the trace before has a child that may still clean up
    before = files(), traces()
    with Trace(tmp_path, (f"udp and dst port {PORT}",), CHROOT) as trace:
        assert files() == before[0]
        assert running()
        trace.stop(number)
    wait_for(lambda: not running() and (files(), traces()) == before, lambda: f"left: {running()} {files()} {traces()}")
