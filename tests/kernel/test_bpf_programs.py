"""--filter-trace-tc: BPF programs that see an skb, at their entry and at their exit with the verdict."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pwru import libbpf
from pwru.ebpf import RETURN_0
from pwru.kernel.btf import STRUCT
from vmtest.network import Network, inside, sh

from .backends import btf, each_backend, narrow
from .bpf_programs import Tc, lead_tail_call, netfilter_hook, programs, replaced
from .tracing import Start, Trace

pytestmark = pytest.mark.two_kernels
_BPF_PROG_TYPE_SCHED_CLS = 3
# The shortest traces: this function and the programs.
FEW = "--filter-func", "__dev_queue_xmit", "--output-json", "icmp"
PASSES = "passes_every_packet_on(tc)"


@pytest.fixture
def folder() -> Iterator[Path]:
    with programs() as folder:
        yield folder


@pytest.fixture
def tc(network: Network, folder: Path) -> Iterator[Tc]:
    with Tc(network) as tc:
        yield tc


def ping_in_vain(network: Network) -> None:
    network.run(network.client, "ping", "-n", "-c1", "-W1", network.destination, check=False)


def seen(trace: Trace, name: str = "") -> list[tuple[str, str | None]]:
    """The events of the programs whose name begins so: FUNC, and the verdict of an exit."""
    assert trace.stop() == 0
    return verdicts(trace.objects(), name)


def verdicts(events: list[dict[str, Any]], name: str) -> list[tuple[str, str | None]]:
    return [(e["func"], e.get("verdict")) for e in events if "(" in e["func"] and e["func"].startswith(name)]


@each_backend
@pytest.mark.usefixtures("nothing_left")
def test_entry_and_exit(backend: str, network: Network, pwru: Start) -> None:
    with programs() as folder, Tc(network) as tc:
        tc.put(folder / "passes_every_packet_on", 1)
        tc.put(folder / "drops_every_packet", 2)
        with pwru("--filter-trace-tc", "--output-json", *narrow(backend), "icmp") as trace:
            ping_in_vain(network)
            assert trace.stop() == 0
        events = trace.objects()
        with pwru("--filter-trace-tc", *narrow(backend), "icmp") as text:
            ping_in_vain(network)
            assert text.stop() == 0
    dropped = "drops_every_packet(tc)"
    assert verdicts(events, "passes")[:2] == [(PASSES, None), (PASSES, "TC_ACT_UNSPEC")]
    assert verdicts(events, "drops")[:2] == [(dropped, None), (dropped, "TC_ACT_SHOT")]
    packet = next(event for event in events if event["func"] == dropped)
    assert packet["iface"].startswith(f"{network.client_device}:")
    assert (packet["tuple"]["daddr"], packet["len"], packet["cb"]) == (network.destination, 98, [0] * 5)
    assert trace.account()["lost"]["ring_buffer_full"] == 0
    assert "__sk_buff->cb[]" in text.out.splitlines()[0]
    ends = re.findall(r"\(icmp\) (\w+\(tc\)(?: TC_\w+)?)", text.out)
    assert ends[:4] == [PASSES, f"{PASSES} TC_ACT_UNSPEC", dropped, f"{dropped} TC_ACT_SHOT"]
    assert re.search(r"^Attached to \d BPF programs: ", text.err, re.MULTILINE)


def test_packets_that_do_not_match(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    tc.put(folder / "passes_every_packet_on")
    with pwru("--filter-trace-tc", *FEW, "and", "host", "10.9.0.77") as trace:
        network.ping()
        assert seen(trace) == []


def test_caller_and_stack(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    """The caller of the program, not of the trampoline."""
    tc.put(folder / "passes_every_packet_on")
    with pwru("--filter-trace-tc", "--output-caller", "--output-stack", *FEW) as trace:
        network.ping()
        assert trace.stop() == 0
    events = [event for event in trace.objects() if event["func"] == PASSES]
    assert len(events) >= 2
    for event in events:
        assert event["caller_func"]
        assert event["stack"][0].startswith(event["caller_func"].partition("[")[0] + "+")


def test_tail_call(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    """It jumps over where the trampoline is called from: who made the call tells the verdict."""
    lead_tail_call(folder, "drops_every_packet")
    tc.put(folder / "calls_another")
    with pwru("--filter-trace-tc", *FEW) as trace:
        ping_in_vain(network)
        assert set(seen(trace)) == {("calls_another(tc)", None), ("calls_another(tc)", "TC_ACT_SHOT")}
    (line,) = re.findall("^Not traced where a tail call leads.*", trace.err, re.MULTILINE)
    assert "hides: drops_every_packet;" in line


def test_untrusted_argument(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    tc.put(folder / "takes_anything")
    with pwru("--filter-trace-tc", *FEW) as trace:
        ping_in_vain(network)
        assert set(seen(trace)) == {("takes_anything(tc)", None), ("takes_anything(tc)", "TC_ACT_SHOT")}


def test_without_btf(pwru: Start) -> None:
    """Named once, however many have the name."""
    fds = [libbpf.prog_load(_BPF_PROG_TYPE_SCHED_CLS, RETURN_0) for _ in range(2)]
    try:
        with pwru("--filter-trace-tc", *FEW) as trace:
            fds.append(libbpf.prog_load(_BPF_PROG_TYPE_SCHED_CLS, RETURN_0))
            with programs():
                trace.wait_for(lambda: "Attached to BPF programs" in trace.err)
            assert trace.stop() == 0
    finally:
        for fd in fds:
            os.close(fd)
    assert re.findall("^Not traced: .*", trace.err, re.MULTILINE) == [
        "Not traced: BPF program pwru: loaded without BTF."
    ]


def test_loaded_later_and_replaced(network: Network, pwru: Start) -> None:
    with pwru("--filter-trace-tc", *FEW) as trace:
        assert "Attached to no BPF program yet" in trace.err
        with programs() as folder, Tc(network) as tc:
            trace.wait_for(lambda: "Attached to BPF programs" in trace.err)
            tc.put(folder / "passes_every_packet_on")
            network.ping()
            tc.put(folder / "drops_every_packet")
            ping_in_vain(network)
            events = seen(trace)
    names = list(dict.fromkeys(name for name, _ in events))
    assert names == [PASSES, "drops_every_packet(tc)"]
    assert events[-1][1] == "TC_ACT_SHOT"


def test_replaced_function(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    """What replaces a function of a program is traced, too."""
    tc.put(folder / "calls_a_function")
    replacement = "replaces_a_function(tc)"
    with pwru("--filter-trace-tc", *FEW) as trace, replaced(folder / "calls_a_function", "passes_on"):
        trace.wait_for(lambda: "Attached to BPF program replaces_a_function" in trace.err)
        ping_in_vain(network)
        assert seen(trace)[:4] == [
            ("calls_a_function(tc)", None),
            (replacement, None),
            (replacement, "TC_ACT_SHOT"),
            ("calls_a_function(tc)", "TC_ACT_SHOT"),
        ]


def test_replaced_program(network: Network, pwru: Start, folder: Path, tc: Tc) -> None:
    tc.put(folder / "passes_every_packet_on")
    with (
        replaced(folder / "passes_every_packet_on", "passes_every_packet_on"),
        pwru("--filter-trace-tc", *FEW) as trace,
    ):
        ping_in_vain(network)
        assert {name for name, _ in seen(trace)} == {"replaces_a_function(tc)"}
    assert re.search(r"^Not traced: BPF program passes_every_packet_on: .*freplace", trace.err, re.MULTILINE)


def test_cgroup(network: Network, pwru: Start, folder: Path, tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    sh("mount", "-t", "cgroup2", "none", str(cgroup))
    attached = str(cgroup), "egress", "pinned", str(folder / "drops_what_is_sent")
    sh("bpftool", "cgroup", "attach", *attached)
    try:
        with pwru("--filter-trace-tc", *FEW) as trace:
            ping_in_vain(network)
            name = "drops_what_is_sent(cgroup_skb)"
            assert seen(trace)[:2] == [(name, None), (name, "SK_DROP")]
    finally:
        sh("bpftool", "cgroup", "detach", *attached)
        sh("umount", str(cgroup))


@pytest.mark.skipif(btf().find("bpf_nf_ctx", STRUCT) is None, reason="netfilter runs no BPF programs here")
def test_netfilter(network: Network, pwru: Start) -> None:
    name = "drops_what_comes_in"
    with (
        programs("netfilter") as folder,
        inside(network.server),
        netfilter_hook(folder / name),
        pwru("--filter-trace-tc", *FEW) as trace,
    ):
        ping_in_vain(network)
        assert seen(trace)[:2] == [(f"{name}(netfilter)", None), (f"{name}(netfilter)", "NF_DROP")]
