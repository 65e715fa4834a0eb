"""However a trace ends, it ends soon, prints its account, and leaves nothing in the kernel."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from pwru.kernel import facts as memory
from tests.unit.interrupt import interrupted
from vmtest.network import Network, sh

from .backends import BACKENDS, NARROW, each_backend, narrow
from .leftovers import COMMAND, PATIENCE, PROMPT, hits, ids, probes, wait_for
from .tracing import Start, Trace

pytestmark = [pytest.mark.two_kernels, pytest.mark.usefixtures("nothing_left")]


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start pwru as a shell does: in a process group of its own, which receives the terminal's Ctrl-C."""
    return subprocess.Popen(
        ["pwru", *arguments],
        stdout=DEVNULL,
        stderr=PIPE,
        text=True,
        process_group=0,
    )


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@each_backend
def test_a_signal_ends_with_the_totals(backend: str, number: signal.Signals, network: Network, pwru: Start) -> None:
    with pwru(*narrow(backend), "icmp") as trace:
        assert ids("prog")
        network.ping()
        trace.wait_for_func(r"->10\.9\.0\.1:0\(icmp\)")  # the reply
        began = time.monotonic()
        assert trace.stop(number) == 0
        assert time.monotonic() - began < PROMPT
    lines, lost = trace.totals()
    assert (lines, lost) == (len(trace.rows()), 0)
    said = [line for line in trace.err.splitlines() if not line.startswith("Attaching: ")]  # if it takes longer
    assert [line.partition(" ")[0] for line in said] == ["Attached", "Listening", str(lines)]


def test_a_second_signal_leaves_at_once(network: Network) -> None:
    """The first one cannot end it: pwru blocks while it writes to a pipe that nobody reads."""
    reader, writer = os.pipe()
    noise = subprocess.Popen(["ip", "netns", "exec", "client", "ping", "-q", "-f", network.destination], stdout=DEVNULL)
    process = subprocess.Popen(["pwru", *NARROW, "icmp"], stdout=writer, stderr=writer, process_group=0)
    try:
        wait_for(lambda: not select.select([], [writer], [], 0)[1])
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: Path(f"/proc/{process.pid}/syscall").read_text().startswith("1 0x2 "))  # write(2, …)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
        assert time.monotonic() - began < PROMPT
    finally:
        for child in (noise, process):
            child.kill()
            child.wait()
        os.close(reader)
        os.close(writer)


@pytest.mark.one_kernel
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_the_status_tells_of_other_signals(number: signal.Signals, network: Network, pwru: Start) -> None:
    with pwru(*NARROW, "icmp") as trace:
        network.ping()
        trace.wait_for_func(r"->10\.9\.0\.1:0\(icmp\)")
        assert trace.stop(number) == 128 + number
    assert trace.totals() == (len(trace.rows()), 0)


@pytest.mark.one_kernel
def test_a_terminal_that_is_closed(network: Network, tmp_path: Path) -> None:
    """The kernel sends SIGHUP to the leader of its session. What was printed until then is in the account."""
    terminal, there = os.openpty()
    err, seen = tmp_path / "err", b""
    command = ("setsid", "--ctty", "pwru", *NARROW, "icmp")
    with err.open("wb") as file:
        process = subprocess.Popen(command, stdin=there, stdout=there, stderr=file)
    os.close(there)
    wait_for(lambda: "Listening" in err.read_text())
    network.ping()
    while b"->10.9.0.1:0(icmp)" not in seen:
        seen += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert process.wait(PATIENCE) == 128 + signal.SIGHUP
    account = r"[1-9]\d* events of (at least )?\d+ packets?, 0 lost(, .* has gone\))?"
    assert re.fullmatch(account, err.read_text().splitlines()[-1])


@pytest.mark.one_kernel
def test_a_terminal_that_is_closed_ends_a_trace_to_a_file(tmp_path: Path) -> None:
    """Whoever sends SIGHUP for a new file leaves the terminal open."""
    terminal, there = os.openpty()
    err = tmp_path / "err"
    command = ("setsid", "--ctty", "pwru", *NARROW, f"--output-file={tmp_path / 'out'}", "icmp")
    with err.open("wb") as file:
        process = subprocess.Popen(command, stdin=there, stdout=there, stderr=file)
    os.close(there)
    wait_for(lambda: "Listening" in err.read_text())
    (tmp_path / "out").unlink()
    process.send_signal(signal.SIGHUP)
    wait_for((tmp_path / "out").exists)
    assert process.poll() is None
    os.close(terminal)
    assert process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert " events of " in err.read_text().splitlines()[-1]


@pytest.mark.one_kernel
def test_nohup_goes_on(network: Network, tmp_path: Path) -> None:
    with Trace(tmp_path, (*NARROW, "icmp"), launcher=("nohup",)) as trace:
        trace.process.send_signal(signal.SIGHUP)
        network.ping()
        trace.wait_for_func(r"->10\.9\.0\.1:0\(icmp\)")
        assert trace.stop() == 0
    assert trace.totals() == (len(trace.rows()), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_attaching(number: signal.Signals) -> None:
    process = start("--backend", "kprobe")
    wait_for(lambda: len(probes()) > 20)
    os.killpg(process.pid, number)
    began = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < PROMPT
    assert process.returncode == 1
    *progress, last = err.splitlines()
    assert last == "pwru: interrupted before everything was attached"
    assert all(re.fullmatch(r"Attaching: \d+ of \d+", line) for line in progress)


# Before the handlers are installed, an interrupt is an exception; from then on it is a request, handled later.
@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("at", "statuses"),
    [
        ("pwru.sinks.terminal:terminal", (130, 254)),
        ("pwru.kernel.features:missing_capabilities", (130, 254)),
        ("pwru.kernel.btf.load:vmlinux_btf", (0, 1)),
        ("pwru.commands.stop:Stop.__enter__", (130, 254)),
        ("pwru.filter.splice:splice", (0, 1)),
        ("pwru.libbpf.object:Object.__init__", (0, 1)),
        ("pwru.kernel.kallsyms:Kallsyms.read", (0, 1)),
        ("pwru.libbpf.object:Object.load", (0, 1)),
        ("pwru.sinks:StreamSink.open", (0,)),
        ("pwru.record.account:Account.text", (0,)),
    ],
)
def test_an_interrupt_at_any_moment(at: str, statuses: tuple[int, ...], network: Network, tmp_path: Path) -> None:
    shutil.rmtree(memory.FOLDER, ignore_errors=True)  # so that nothing comes from the cache
    noise = subprocess.Popen(
        ["ip", "netns", "exec", network.client, "ping", "-q", "-i0.1", network.destination], stdout=DEVNULL
    )
    try:
        arguments = (*narrow(BACKENDS[0]), "--output-limit-lines=1", "icmp")
        status, err = interrupted(at, tmp_path, sys.executable, COMMAND, *arguments)
    finally:
        noise.kill()
        noise.wait()
    assert status % 256 in statuses, err
    assert [line.partition(" ")[0] for line in err.splitlines()] in {
        0: (["Attached", "Listening", "1"], ["Attached", "Listening", "0"]),
        1: (["pwru:"],),
    }.get(status, ([],))


# --- what a killed tracer leaves ---


def test_killed_while_attaching() -> None:
    process = start("--backend", "kprobe")
    wait_for(lambda: len(probes()) > 20)
    process.kill()
    process.communicate()
    wait_for(lambda: not probes())
    assert not ids("prog")


@each_backend
def test_killed_while_tracing(backend: str, pwru: Start) -> None:
    with pwru(*narrow(backend)) as trace:
        assert ids("prog")
        assert bool(probes()) == (backend == "kprobe")
        trace.process.kill()
        trace.process.wait()
    wait_for(lambda: not probes() and not ids("prog") and not ids("link"))


@each_backend
def test_the_next_start_removes_what_a_killed_guardian_left(pwru: Start, backend: str) -> None:
    with pwru(*narrow("kprobe")) as dead:
        (guardian,) = map(int, sh("pgrep", "-P", str(dead.process.pid)).stdout.split())
        os.kill(guardian, signal.SIGKILL)
        dead.process.kill()
        dead.process.wait()
    left = set(probes())
    assert len(left) == 3
    with pwru(*narrow(backend)) as trace:
        wait_for(lambda: not left & set(probes()))
        assert len(probes()) == (3 if backend == "kprobe" else 0)
        assert trace.stop() == 0


def test_a_container_that_is_killed(pwru: Start, tmp_path: Path) -> None:
    """The guardian dies with the PID namespace. A tracer outside removes what they left, but not what others use.

    Here it dies a little sooner: of three probes it would have removed some, if not all.
    """
    container = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with (
        Trace(tmp_path, narrow("kprobe"), launcher=container) as dead,
        pwru(*narrow("kprobe")) as outside,
    ):
        assert len(probes()) == 6  # the second has not taken the first for a dead one
        init, guardian = sh("pgrep", "--ns", sh("pgrep", "-P", str(dead.process.pid)).stdout.strip()).stdout.split()
        os.kill(int(guardian), signal.SIGKILL)
        os.kill(int(init), signal.SIGKILL)
        dead.process.wait()
        assert len(probes()) == 6
        with pwru(*narrow(BACKENDS[0])) as another:
            wait_for(lambda: len(probes()) == 3 + 3 * (BACKENDS[0] == "kprobe"))
            assert another.stop() == 0
        assert outside.stop() == 0


# --- two at once ---


@pytest.mark.parametrize(
    ("first", "second"),
    [("kprobe", "kprobe"), *[("kprobe", "kprobe-multi"), ("kprobe-multi", "kprobe")] * ("kprobe-multi" in BACKENDS)],
)
def test_two_at_once(first: str, second: str, network: Network, pwru: Start) -> None:
    """Both see the same, whether the other one is starting, tracing or removing what it had in the kernel."""

    def functions(trace: Trace, size: int) -> list[str]:
        """The functions that saw the pings of this size; an incomplete last line is ignored."""
        lines = [line for line in trace.out.splitlines(keepends=True) if line.endswith("\n")]
        return [line.split()[-1] for line in lines if re.search(rf" {size + 28} +10\.9\.0\.", line)]

    # Request and reply, each sent and received; icmp_rcv sees them without the IP header.
    way = ["__ip_local_out", "ip_rcv"] * 2
    sent = 0
    with pwru(*narrow(first), "icmp") as one, ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        starting = pool.submit(stack.enter_context, pwru(*narrow(second), "icmp"))
        while not starting.done():
            network.ping("-s", "100")
            sent += 1
        two = starting.result()
        network.ping("-s", "200")
        one.wait_for(lambda: functions(one, 200) == way)
        two.wait_for(lambda: functions(two, 200) == way)
        assert functions(one, 100) == way * sent
        mine = len(probes())
        one.process.send_signal(signal.SIGINT)
        sent = 0
        while one.process.poll() is None or (first == "kprobe" and len(probes()) == mine):
            network.ping("-s", "300")
            sent += 1
        if first == "kprobe":
            wait_for(lambda: len(probes()) == mine - 3)
        network.ping("-s", "400")
        two.wait_for(lambda: functions(two, 400) == way)
        assert two.stop() == 0
    assert one.process.returncode == 0
    assert functions(one, 400) == []
    assert functions(two, 300) == way * sent
    for trace in (one, two):
        assert trace.totals() == (len(trace.rows()), 0)


# --- a network that changes ---


@pytest.mark.parametrize("backend", [BACKENDS[0], "tracepoint"])
def test_namespaces_and_interfaces_come_and_go(backend: str, pwru: Start) -> None:
    """All hits are accounted for while networks are created and deleted, and nothing fails."""
    with pwru("--backend", backend) as trace:
        for number in range(30):  # with unique names: the devices of a namespace are removed some time after it
            netns, here, there, net = f"n{number}", f"a{number}", f"b{number}", f"10.99.{number}"
            sh("ip", "netns", "add", netns)
            sh("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", netns)
            sh("ip", "address", "add", f"{net}.1/24", "dev", here)
            sh("ip", "-n", netns, "address", "add", f"{net}.2/24", "dev", there)
            sh("ip", "link", "set", here, "up")
            sh("ip", "-n", netns, "link", "set", there, "up")
            sh("ping", "-n", "-c1", "-W5", f"{net}.2")
            sh("ip", "netns", "delete", netns)
        counted = hits()
        assert trace.stop() == 0
    lines, lost = trace.totals()
    assert len(trace.rows()) == lines
    assert lines + lost >= counted > 1000
    assert [line.partition(" ")[0] for line in trace.err.splitlines() if not line.startswith("Attaching")] == [
        "Attached",
        "Listening",
        str(lines),
    ]
    pinged = {
        match[1] for row in trace.rows() if (match := re.match(r"10\.99\.(\d+)\.1:0->.*icmp", row["tuple"] or ""))
    }
    assert len(pinged) == 30
