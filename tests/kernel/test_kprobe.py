"""Single kprobes: where they are placed, and what happens if the kernel refuses one of a batch."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwru.kernel.ftrace import nop_ends
from pwru.kernel.functions import Target
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.live.backends.how import How
from pwru.live.backends.kprobe_events import Probe, dead_groups, define, define_probes, remove_group
from vmtest.network import Network, sh

from .backends import BACKENDS, narrow
from .leftovers import PATIENCE, TRACEFS, probes, wait_for
from .refusals import refused
from .tracing import Trace

pytestmark = [pytest.mark.three_kernels, pytest.mark.usefixtures("nothing_left")]

# The group of a dead tracer: nobody holds its lock.
GROUP = "pwru_1_1"


@pytest.fixture
def targets() -> list[Target]:
    return Places(Kernel(), "ip_rcv|icmp_rcv|__ip_local_out|udp_rcv").functions


@pytest.fixture
def events() -> Iterator[int]:
    fd = os.open(TRACEFS / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    yield fd
    os.close(fd)
    remove_group(TRACEFS, GROUP)
    assert not probes()


def test_every_function_has_a_nop_and_a_probe_fits_behind_it(targets: list[Target], events: int) -> None:
    ends = nop_ends([target.address for target in targets])
    assert ends is not None
    assert {end - address for address, end in ends.items()} <= {5, 9}
    wanted = [Probe(target, f"n=+{n}(%sp)", [ends[target.address]]) for n, target in enumerate(targets)]
    assert define_probes(events, f"{GROUP}/skb", wanted) == list(ends.values())
    assert len(probes()) == len(targets) == 4


def test_of_a_batch_only_what_is_refused_is_missing(targets: list[Target], events: int) -> None:
    one, two, three, four = targets
    ends = nop_ends([target.address for target in targets])
    assert ends is not None
    wanted = [
        Probe(one, "n=+1(%sp)", [ends[one.address], one.address]),
        Probe(two, "n=+2(%sp)", [two.address + 1]),  # inside an instruction
        Probe(three, "n=+3(%sp)", [three.address + 1, three.address]),
        Probe(four, "n=+4(%sp)", [ends[four.address]]),
    ]
    first, refused, third, last = define_probes(events, f"{GROUP}/skb", wanted)
    assert (first, third, last) == (ends[one.address], three.address, ends[four.address])
    assert isinstance(refused, OSError)
    assert refused.errno == errno.EILSEQ
    assert len(probes()) == 3
    assert GROUP in dead_groups(TRACEFS)


def test_what_others_have_named_alike_is_not_touched(events: int) -> None:
    try:
        os.write(events, b"p:pwru_my_own/skb ip_rcv\n")
        assert dead_groups(TRACEFS) == []
    finally:
        os.write(events, b"-:pwru_my_own/skb\n")


@pytest.mark.parametrize("init_has_it", [True, False])
def test_tracefs_of_others_or_of_its_own(init_has_it: bool, network: Network, tmp_path: Path) -> None:
    """`ip netns exec` hides it, though not that of init; in a PID namespace there is none to be seen at all."""
    inside = ["ip", "netns", "exec", network.client]
    if not init_has_it:
        inside = ["unshare", "--pid", "--fork", "--mount-proc", *inside]
    assert not sh(*inside, "ls", "/sys/kernel/tracing").stdout
    mounts = Path("/proc/self/mounts").read_text()
    with Trace(tmp_path, (*narrow("kprobe"), "icmp"), tuple(inside)) as trace:
        pid = trace.process.pid if init_has_it else int(sh("pgrep", "-P", str(trace.process.pid)).stdout)
        network.ping()
        trace.wait_for_func(r"->10\.9\.0\.1:0\(icmp\)")
        assert Path("/proc/self/mounts").read_text() == mounts
        os.kill(pid, signal.SIGINT)
        assert trace.process.wait(PATIENCE) == 0
    assert trace.totals() == (len(trace.rows()), 0)


# Runs a command to which the kernel refuses the system call of this number (EPERM), as in a container: seccomp(2).
SECCOMP = """
import ctypes, os, struct, sys
number, *command = sys.argv[1:]
insns = [(0x20, 0, 0, 0), (0x15, 0, 1, int(number)), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *insn) for insn in insns))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert prctl(22, 2, ctypes.create_string_buffer(struct.pack("@HP", len(insns), ctypes.addressof(code)))) == 0
os.execvp(command[0], command)
"""


WITHOUT_PERF = sys.executable, "-c", SECCOMP, str({"x86_64": 298, "aarch64": 241}[os.uname().machine])


@pytest.mark.one_kernel
def test_what_it_needs_is_tried_before_anything_is_defined() -> None:
    line = refused(*WITHOUT_PERF, "pwru", "--backend=kprobe")
    assert "kprobe: perf_event_open() is refused (Operation not permitted) by a seccomp filter" in line


@pytest.mark.skipif("kprobe-multi" in BACKENDS, reason="a quick one is available")
def test_what_takes_long_is_told_before_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "err"
    with path.open("wb") as err:
        process = subprocess.Popen([*WITHOUT_PERF, "pwru"], stdout=subprocess.DEVNULL, stderr=err)
    wait_for(lambda: "\nAttaching to " in path.read_text(), path.read_text)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 1
    why, what, *_, end = path.read_text().splitlines()
    assert re.match(r"Not available: kprobe-multi: .*; kprobe: perf_event_open\(\) is refused \(", why)
    assert re.match(r"Attaching to \d{4} functions one by one \(fentry\): .* narrower --filter-func takes less\.", what)
    assert end == "pwru: interrupted before everything was attached"


def test_what_the_kernel_forbids_is_skipped_and_named(targets: list[Target], events: int) -> None:
    """No function with an skb is blacklisted in these kernels, so another one stands in for it."""
    line, *_ = Path("/sys/kernel/debug/kprobes/blacklist").read_text().splitlines()
    span, name = line.split()
    forbidden = targets[0]._replace(name=name, address=int(span.partition("-")[0], 16))
    wanted, seen = [forbidden, *targets[1:]], []
    by_address, skipped = define(
        TRACEFS, f"{GROUP}/skb", wanted, How(batch=2), lambda done, total: seen.append((done, total))
    )
    assert skipped == [(name, "kprobes are not allowed in it")]
    assert list(by_address.values()) == targets[1:]
    assert seen == [(2, 3), (3, 3)]
    assert len(probes()) == 3
