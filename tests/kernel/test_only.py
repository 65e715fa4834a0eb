"""The flight recorder: packets that were dropped, slow, sent again or stuck are printed with their whole way."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from vmtest.network import Network, inside
from vmtest.udp import PORT, Udp

from . import topology
from .backends import drop_function
from .following import Event, at, distinct, follow, func, ways
from .packets import connect
from .tracing import Start, Trace

pytestmark = pytest.mark.three_kernels

WAY = "__tcp_transmit_skb|__ip_local_out|ip_rcv|ip_local_deliver|skb_consume_udp"
PLACES = "--filter-func", f"{WAY}|{drop_function()}|skb_release_head_state|kfree_skbmem"
OPEN_PORT = 5002
NOWHERE = "10.9.0.99"  # nobody has this address, so its neighbour is looked for in vain


def only(pwru: Start, what: str, *arguments: str) -> Trace:
    return pwru("--only", what, "--output-json", *PLACES, *arguments)


def kept(trace: Trace) -> tuple[list[Event], dict[str, Any]]:
    """Stop a trace; return its events, and its account, which adds up."""
    assert trace.stop() == 0
    print(trace.err, trace.out)  # shown if the test fails
    account = trace.account()
    events = trace.objects()
    assert (account["not_printed"], account["lost"]["ring_buffer_full"]) == (0, 0)
    packets = len(distinct(event["packet"] for event in events))
    assert account["kept"] == {"packets": packets, "events": len(events), "given_up": 0}
    return events, account


def test_dropped(network: Network, pwru: Start, udp: Udp) -> None:
    """They have all that a trace of everything has of them, in the same order."""
    filter_ = f"udp and (dst port {PORT} or dst port {OPEN_PORT})"
    with (
        topology.udp(network.server, OPEN_PORT) as reader,
        topology.udp(network.client) as sender,
        follow(pwru, *PLACES, filter_) as everything,
        only(pwru, "dropped", filter_) as trace,
    ):
        for _ in range(5):
            udp.send(1)
            sender.sendto(b"read", (network.destination, OPEN_PORT))
            reader.recv(100)
        events, account = kept(trace)
        assert everything.stop() == 0
    assert account["packets"] == 10
    assert account["kept"]["packets"] == 5
    all_events = everything.objects()
    dropped = [way for way in ways(all_events).values() if drop_function() in way]
    assert len(dropped) == 5
    assert list(ways(events).values()) == dropped
    assert len(at(events, drop_function())) == 5
    assert {event["tuple"]["dport"] for event in events} == {PORT}
    assert account["events"] == len(all_events)


def test_slower(network: Network, pwru: Start) -> None:
    """A datagram that its reader lets wait."""
    with (
        topology.udp(network.server, OPEN_PORT) as reader,
        topology.udp(network.client) as sender,
        only(pwru, "slower=400ms", f"udp and dst port {OPEN_PORT}") as trace,
    ):
        for size, delay in ((1, 0.0), (2, 0.5), (3, 0.0)):
            sender.sendto(bytes(size), (network.destination, OPEN_PORT))
            time.sleep(delay)
            reader.recv(100)
        events, account = kept(trace)
    assert account["packets"] == 3
    assert {event["len"] for event in at(events, "ip_rcv")} == {20 + 8 + 2}
    assert func(events[0]) == "__ip_local_out"
    assert func(events[-1]) in ("skb_release_head_state", "kfree_skbmem")


def test_stuck(network: Network, pwru: Start, udp: Udp) -> None:
    """A datagram that nobody reads is printed while the trace goes on, one that is dropped is not."""
    with (
        topology.udp(network.server, OPEN_PORT),
        topology.udp(network.client) as sender,
        only(pwru, "stuck", "udp and src host 10.9.0.1") as trace,
    ):
        udp.send(1)
        sender.sendto(b"wait", (network.destination, OPEN_PORT))
        trace.wait_for_func("ip_local_deliver")
        events, account = kept(trace)
    assert account["packets"] == 2
    assert {event["tuple"]["dport"] for event in events} == {OPEN_PORT}
    assert [func(event) for event in events] == ["__ip_local_out", "ip_rcv", "ip_local_deliver"]


def test_a_neighbour_that_does_not_answer(network: Network, pwru: Start) -> None:
    """The packet waits for it, and is dropped then: more than one thing is wrong with it, and it is printed once."""
    with (
        topology.udp(network.client) as sender,
        only(pwru, "stuck,dropped", "--only=slower=100ms", f"udp and dst host {NOWHERE}") as trace,
    ):
        sender.sendto(b"lost", (NOWHERE, OPEN_PORT))
        trace.wait_for_func(drop_function())
        events, account = kept(trace)
    assert account["kept"]["packets"] == 1
    assert func(events[0]) == "__ip_local_out"
    assert len(at(events, "__ip_local_out")) == 1


def test_retransmitted(network: Network, pwru: Start, firewall: int) -> None:
    """A SYN that a firewall drops is sent again after a second; one to a closed port is answered."""
    with only(pwru, "retransmitted", f"tcp and dst host {network.destination} and dst portrange 8080-8081") as trace:
        connect(network, network.destination, firewall + 1)
        with inside(network.client):
            tries = socket.socket()
        tries.settimeout(2)
        with tries:
            assert tries.connect_ex((network.destination, firewall))
        trace.wait_for(lambda: bool(trace.out))
        events, account = kept(trace)
    assert account["packets"] >= 2
    assert {event["tuple"]["dport"] for event in events if event["tuple"]} == {firewall}
    assert {1, 2} <= {event.get("transmission") for event in events}
    assert len({event["packet"] for event in events}) == 1


@pytest.mark.one_kernel
def test_a_summary_of_what_went_wrong(network: Network, pwru: Start, udp: Udp) -> None:
    with pwru(
        "--only", "dropped", "--summary", "--output-json", *PLACES, f"udp dst port {PORT} or icmp[icmptype] = icmp-echo"
    ) as trace:
        udp.send(4)
        network.ping()
        assert trace.stop() == 0
    found = json.loads(trace.out)
    assert found["packets"] == found["packets_dropped"] == 4
