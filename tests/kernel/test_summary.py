"""The summary of real packets: where they are dropped, which ways they take, how long that takes, and what waits."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from vmtest.network import Network
from vmtest.udp import PORT, Udp

from . import topology
from .backends import drop_function
from .tracing import Start, Trace

pytestmark = pytest.mark.three_kernels

# With where an skb ends, so that it is known what is still on its way.
PLACES = f"__ip_local_out|ip_rcv|ip_local_deliver|skb_consume_udp|{drop_function()}|skb_release_head_state|kfree_skbmem"
MS = 1_000_000
OPEN_PORT = 5002


def summary(trace: Trace) -> dict[str, Any]:
    """Stop a trace and return its summary; nothing was lost."""
    assert trace.stop() == 0
    print(trace.err, trace.out)  # shown if the test fails
    account = trace.account()
    (line,) = trace.out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["events_lost"] == account["lost"]["probe_missed"]
    assert found["packets"] == account["packets"]
    return found


def summarized(pwru: Start, *arguments: str) -> Trace:
    return pwru("--summary", "--output-json", "--filter-func", PLACES, *arguments)


def test_drops_and_ways(network: Network, pwru: Start, udp: Udp) -> None:
    """Nobody listens at one port; what is sent to the other one is read."""
    with (
        topology.udp(network.server, OPEN_PORT) as reader,
        topology.udp(network.client) as sender,
        summarized(pwru, f"udp and (dst port {PORT} or dst port {OPEN_PORT})") as trace,
    ):
        udp.send(20)
        for _ in range(5):
            sender.sendto(b"read", (network.destination, OPEN_PORT))
            reader.recv(100)
        found = summary(trace)
    assert (found["packets"], found["packets_dropped"]) == (25, 20)
    assert sum(drop["count"] for drop in found["drops"]) == 20
    for drop in found["drops"]:
        assert drop["func"] == drop_function()
        assert "udp" in drop["place"]
        assert drop["iface"].startswith(f"{network.server_device}:")
        assert drop["netns"]
        assert drop["reason"] == (None if drop_function() == "kfree_skb" else "NO_SOCKET")
    ways = {way["end"]: way for way in found["ways"]}
    assert ways["dropped"]["count"] == 20
    assert ways["ended"]["count"] == 5
    for end, place in (("dropped", drop_function()), ("ended", "skb_consume_udp")):
        (functions,) = ways[end]["functions"]
        assert functions[:3] == ["__ip_local_out", "ip_rcv", "ip_local_deliver"]
        assert place in [name.partition("(")[0] for name in functions]
    spans = {(span["from"], span["to"]): span["times"] for span in found["spans"]}
    assert spans["ip_rcv", "ip_local_deliver"]["count"] == 25


def test_what_waits(network: Network, pwru: Start) -> None:
    """A datagram waits in a socket for whoever reads it, and takes as long as that; another one is not read."""
    with (
        topology.udp(network.server, OPEN_PORT) as reader,
        topology.udp(network.client) as sender,
        summarized(pwru, f"udp and dst port {OPEN_PORT}") as trace,
    ):
        for _ in range(2):
            sender.sendto(b"wait", (network.destination, OPEN_PORT))
        time.sleep(1.5)
        reader.recv(100)
        found = summary(trace)
    (waiting,) = found["waiting"]
    assert waiting["packet"] == "#2"
    assert waiting["not_seen_for"] >= 1500 * MS
    assert found["packets_on_their_way"] == 1
    (ended,) = [way for way in found["ways"] if way["end"] == "ended"]
    assert ended["example"] == "#1"
    assert ended["times"]["p50"] >= 1500 * MS
    first = found["spans"][0]
    assert first["to"] == "skb_consume_udp"
    assert first["times"]["max"] >= 1500 * MS


def test_in_words(network: Network, pwru: Start, udp: Udp) -> None:
    with pwru("--summary", "--filter-func", PLACES, f"udp and dst port {PORT}") as trace:
        udp.send(3)
        assert trace.stop() == 0
    print(trace.out)
    assert trace.out.startswith("3 packets in ")
    assert ", 3 dropped\n" in trace.out
    for title in ("DROPS", "WAYS", "WHERE THE TIME GOES"):
        assert f"\n{title}\n" in trace.out
    assert "\x1b" not in trace.out


@pytest.mark.one_kernel
def test_drops_without_following(network: Network, pwru: Start, udp: Udp) -> None:
    with pwru("--summary", "--output-json", "--filter-drop-reason", "NO_SOCKET", "udp") as trace:
        udp.send(7)
        found = summary(trace)
    assert found["drops"][0]["count"] == 7
    assert "udp" in found["drops"][0]["place"]
