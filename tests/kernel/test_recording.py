"""A recording gives what a live trace gives: the same lines for flags, the same events for filters."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from vmtest.network import Network
from vmtest.udp import Udp

from .backends import drop_function
from .packets import connect, netns_inode
from .recording import read
from .tracing import Start, Trace
from .tunnels import REMOTE, tunnel

pytestmark = pytest.mark.three_kernels

# On the way of a ping, of a datagram and of a SYN that is dropped.
FUNCTIONS = f"__ip_local_out|ip_output|ip_rcv|ip_local_deliver|icmp_rcv|udp_rcv|{drop_function()}"
SHOWN = [
    (),
    ("--output-caller",),
    ("--output-tcp-flags", "--output-tunnel", "--output-skb-cb"),
    ("--follow", "--output-packet-id"),
    ("--timestamp=current", "--output-meta=false"),
    ("--timestamp=relative", "--output-tuple=false"),
    ("--timestamp=absolute", "--output-netns-names"),
    ("--output-stack",),
    ("--output-skb", "--output-skb-shared-info"),
    ("--output-skb-metadata=skb->mark,skb->dev->ifindex", "--output-payload=60"),
]
TIME_OF_DAY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}")


def send(network: Network, port: int) -> None:
    """Send packets of all kinds, inside a tunnel among them."""
    network.ping("-m", "119")
    connect(network, network.destination, port)
    connect(network, REMOTE, port)


def without_time(lines: list[str]) -> list[str]:
    """Return lines without the time of day: the clocks are compared at different moments, which is a millisecond."""
    return [TIME_OF_DAY.sub("TIME", line) for line in lines]


@pytest.mark.parametrize("shown", SHOWN, ids=" ".join)
def test_the_same_lines(network: Network, firewall: int, pwru: Start, tmp_path: Path, shown: tuple[str, ...]) -> None:
    """Printed while they are recorded and read from the recording, as text and as JSON."""
    packets = ("--filter-func", FUNCTIONS, f"icmp or tcp port {firewall} or udp port 4789")
    forms = ("text", "json")
    with tunnel(network, "vxlan"), ExitStack() as stack:
        traces = [
            stack.enter_context(
                pwru(f"-w{tmp_path / form}", "--print", f"--output-json={form == 'json'}", *shown, *packets)
            )
            for form in forms
        ]
        send(network, firewall)
        for trace in traces:
            assert trace.stop() == 0
    for form, trace in zip(forms, traces, strict=True):
        again = read(tmp_path / form, f"--output-json={form == 'json'}", *shown)
        assert len(again.out) > 10
        assert without_time(again.out) == without_time(trace.out.splitlines())
        assert again.err[-1] == trace.err.splitlines()[-1]  # the account


def words(trace: Trace) -> list[list[str]]:
    """Return the events; columns have other widths, CPUs another order."""
    return sorted(line.split() for line in trace.out.splitlines()[1:])


def test_the_same_events(network: Network, firewall: int, udp: Udp, pwru: Start, tmp_path: Path) -> None:
    """What a filter finds in a recording of everything is what it finds live."""
    path, way = tmp_path / "all", ("--filter-func", FUNCTIONS)
    of_server = ("--filter-netns", f"/run/netns/{network.server}")
    asked: list[tuple[str, ...]] = [
        (*way, f"tcp dst port {firewall} and tcp[tcpflags] & tcp-syn != 0"),
        (*way, *of_server, "icmp"),
        (*way, "--filter-netns", f"inode:{netns_inode(network.client)}", "udp"),
        (*way, *of_server, "--filter-ifname", network.server_device, "udp"),
        (*way, "--filter-mark", "0x77", "icmp"),
        (*way, "--filter-pid", f"{os.getpid()}", "udp"),
        (*way, "--filter-comm", "ping", "icmp"),
        ("--filter-func", "ip_rcv|udp_rcv", "ip"),
    ]
    with pwru("-w", str(path), *way, "ip") as everything, ExitStack() as stack:
        live = [stack.enter_context(pwru("--follow", *arguments)) for arguments in asked]
        network.ping("-m", "119")
        network.ping()
        udp.send(3)
        connect(network, network.destination, firewall)
        for trace in (*live, everything):
            assert trace.stop() == 0
    for arguments, trace in zip(asked, live, strict=True):
        events = words(trace)
        assert events
        assert sorted(line.split() for line in read(path, *arguments).events) == events


@pytest.mark.one_kernel
def test_drop_reasons(network: Network, firewall: int, pwru: Start, tmp_path: Path) -> None:
    path, backend = tmp_path / "all", ("--backend", "tracepoint")
    packets = f"icmp or tcp port {firewall}"
    with (
        pwru("-w", str(path), *backend, packets) as everything,
        pwru(*backend, "--filter-drop-reason=netfilter_drop", packets) as live,
    ):
        network.ping()
        connect(network, network.destination, firewall)
        for trace in (live, everything):
            assert trace.stop() == 0
    events = words(live)
    assert events
    assert sorted(line.split() for line in read(path, "--filter-drop-reason=netfilter_drop").events) == events
    assert read(path, "--filter-drop-reason=tcp_csum").events == []
