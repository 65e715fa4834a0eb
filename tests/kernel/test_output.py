"""What the flags add to a line, on a real packet: each would fail if its flag did nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest

from .conftest import Network, Trace, connect, sh

Start = Callable[..., Trace]

pytestmark = pytest.mark.three_kernels

WAY = "ip_rcv|ip_local_deliver|icmp_rcv"


def test_timestamps(network: Network, pwru: Start) -> None:
    """Of the same events in all modes, traced at the same time; a tracer takes its time a little after another."""
    modes = ("current", "relative", "absolute")
    with ExitStack() as stack:
        traces = {
            mode: stack.enter_context(
                pwru("--output-json", "--timestamp", mode, "--filter-func", WAY, "--output-limit-lines=6", "icmp")
            )
            for mode in modes
        }
        text = stack.enter_context(
            pwru("--timestamp", "absolute", "--filter-func", WAY, "--output-limit-lines=6", "icmp")
        )
        monotonic, day = time.monotonic_ns(), time.time()
        network.ping()
        for trace in (*traces.values(), text):
            trace.wait_until_it_ends()
        later, later_day = time.monotonic_ns(), time.time()
    current, relative, absolute = ([event["time"] for event in traces[mode].objects()] for mode in modes)
    assert monotonic < current[0] < current[-1] < later
    assert current == sorted(current)
    packets = [event["skb"] for event in traces["relative"].objects()]
    assert [at == 0 for at in relative] == [skb not in packets[:number] for number, skb in enumerate(packets)]
    assert sum(relative) < later - monotonic
    days = [datetime.fromisoformat(at).timestamp() for at in absolute]
    days += [datetime.fromisoformat(line.split()[0]).timestamp() for line in text.out.splitlines()[1:]]
    assert len(days) == 12
    assert all(day - 0.002 < at < later_day for at in days)


@pytest.fixture
def tunnel(network: Network) -> Iterator[None]:
    """vxlan between the namespaces: 10.7.0.1 ↔ 10.7.0.2."""
    for netns, remote, device, address in (
        (network.client, network.destination, "v0", "10.7.0.1"),
        (network.server, network.source, "v1", "10.7.0.2"),
    ):
        vxlan = ("type", "vxlan", "id", "7", "remote", remote, "dstport", "4789", "dev", device)
        sh("ip", "-n", netns, "link", "add", "vx0", *vxlan)
        sh("ip", "-n", netns, "address", "add", f"{address}/24", "dev", "vx0")
        sh("ip", "-n", netns, "link", "set", "vx0", "up")
    network.ping("-w30", to="10.7.0.2")
    yield
    for netns in (network.client, network.server):
        sh("ip", "-n", netns, "link", "delete", "vx0")


@pytest.mark.usefixtures("tunnel")
def test_columns(network: Network, firewall: int, pwru: Start) -> None:
    """In text and JSON, of the same SYN, by itself and through a tunnel."""
    flags = ("--output-tcp-flags", "--output-tunnel", "--output-netns-names", "--output-skb-cb")
    arguments = ("--filter-func", "ip_output|ip_rcv|ip_local_deliver", f"tcp port {firewall} or udp port 4789 or icmp")
    with pwru(*flags, *arguments) as text, pwru("--output-json", *flags, *arguments) as as_json:
        connect(network, network.destination, firewall)
        connect(network, "10.7.0.2", firewall)
        network.ping("-R")
        for trace in (text, as_json):
            assert trace.stop() == 0
    header, *lines = text.out.splitlines()
    assert re.search(r" LEN +__sk_buff->cb\[\] +NETNS NAME +TUPLE FUNC TUNNEL$", header)
    syns = [line for line in lines if ":8080(tcp:SYN)" in line]
    assert any(re.search(r"10\.9\.0\.2:8080\(tcp:SYN\) +ip_rcv$", line) for line in syns)
    inner = re.compile(r":4789\(udp\) +ip_output 10\.7\.0\.1:\d+->10\.7\.0\.2:8080\(tcp:SYN\)$")
    tunnelled = [line for line in lines if inner.search(line)]
    assert tunnelled
    assert all(re.search(r" \[(0x[0-9A-F]{8},){4}0x[0-9A-F]{8}\] +client +", line) for line in tunnelled)
    assert all(" server " in line for line in lines if line.endswith("ip_rcv") and "->10.9.0.2" in line)
    # The kernel sends neighbour discoveries through the tunnel whenever it likes.
    lines = [line for line in lines if ":8080" in line]
    events = [event for event in as_json.objects() if ":8080" in f"{event}".replace("port': ", ":")]
    assert len(events) == len(lines)
    for event, line in zip(events, lines, strict=True):
        assert "[" + ",".join(f"0x{word:08X}" for word in event["cb"]) + "]" in line
        assert f" {event['netns_name']} " in line
        assert bool(event["tunnel_tuple"]) == bool(re.search(r" ip_\w+ 10\.7\.0\.1:", line))
        assert ("SYN" in line) == ("SYN" in (event["tuple"]["flags"], (event["tunnel_tuple"] or {}).get("flags")))
    # Where IP options are, the kernel keeps there.
    received = [event for event in as_json.objects() if event["func"] == "ip_local_deliver"]
    with_options = [event["cb"] for event in received if event["tuple"]["proto"] == 1]
    assert with_options
    assert all(any(cb) for cb in with_options)
