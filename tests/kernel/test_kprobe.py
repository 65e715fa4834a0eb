"""Single kprobes: where they are placed, and what happens if the kernel refuses one of a batch."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwru.kernel.ftrace import nop_ends
from pwru.kernel.functions import Target
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.live.backends.how import How
from pwru.live.backends.kprobe_events import Probe, dead_groups, define, define_probes, remove

from .leftovers import TRACEFS, probes

pytestmark = [pytest.mark.three_kernels, pytest.mark.usefixtures("nothing_left")]

# The group of a dead tracer: no process has this PID.
GROUP = f"pwru_{os.stat('/proc/self/ns/pid').st_ino}_0_0"


@pytest.fixture
def targets() -> list[Target]:
    return Places(Kernel(), "ip_rcv|icmp_rcv|__ip_local_out|udp_rcv").functions


@pytest.fixture
def events() -> Iterator[int]:
    fd = os.open(TRACEFS / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    yield fd
    os.close(fd)
    remove(TRACEFS, GROUP)
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


@pytest.mark.parametrize("group", ["pwru_my_own", "pwru_1_0_0"])
def test_what_others_have_named_alike_is_not_touched(targets: list[Target], events: int, group: str) -> None:
    """The second belongs to another PID namespace, where its tracer may be alive."""
    try:
        os.write(events, f"p:{group}/skb ip_rcv\n".encode())
        assert dead_groups(TRACEFS) == []
    finally:
        os.write(events, f"-:{group}/skb\n".encode())


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
