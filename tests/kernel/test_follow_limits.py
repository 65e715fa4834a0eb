"""What following costs no other packet, and what it does not do: the numbers of the account."""

from __future__ import annotations

import socket

import pytest

from vmtest.network import Network, inside
from vmtest.udp import PORT, SOURCE_PORT, Udp

from .accounting import Programs
from .backends import drop_function
from .following import Skb, ended, flows, follow, missed, relations, ways
from .topology import udp as bound
from .tracing import Start, in_order

SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
SENDERS = 4


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(100_000, marks=pytest.mark.three_kernels),
        pytest.param(1_000_000, marks=pytest.mark.long),
    ],
)
def test_churn(network: Network, pwru: Start, udp: Udp, others: int) -> None:
    """Addresses of skbs are used again all the time, by packets of others, which are not taken for followed ones.

    The few places for followed packets are free again when those have ended.
    """
    at_once, rounds = 500, others // 500
    some = 1000 // rounds or 1
    way = ["__ip_local_out", "ip_rcv", "udp_rcv", drop_function()]
    funcs = "--filter-func", "|".join(way)
    with follow(pwru, "--follow-packets=64", *funcs, f"udp src port {SOURCE_PORT}") as trace:
        for _ in range(rounds):
            udp.send(some)
            udp.flood(SENDERS, at_once // SENDERS)
        events = ended(trace)
    assert flows(events) == [f"{network.source}:{SOURCE_PORT}->{network.destination}:{PORT}"]
    assert relations(events) == []
    found = ways(events)
    assert list(found) == [Skb(number, 0) for number in range(1, len(found) + 1)]
    assert all(in_order(passed, way) for passed in found.values())
    assert missed(trace) < rounds  # of thousands of hits in each
    assert 0 <= rounds * some * len(way) - len(events) <= missed(trace)
    account = trace.account()
    assert account["not_followed"] == 0
    assert account["ends_unseen"] <= missed(trace)
    assert not account["waiting"]


@pytest.mark.three_kernels
def test_more_than_there_is_room_for(network: Network, pwru: Start) -> None:
    """Datagrams wait in a socket that nobody reads: the first are followed, and the rest is counted."""
    count, room, port = 5000, 1024, 9998
    way = ["__ip_local_out", "ip_rcv", "udp_rcv"]
    funcs = "--filter-func", "|".join(way)
    programs = Programs()
    with (
        bound(network.server, port) as server,
        follow(pwru, f"--follow-packets={room}", *funcs, f"udp dst port {port}") as trace,
    ):
        server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        with inside(network.client):
            for number in range(count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind(("", 10_000 + number))
                    client.sendto(b"x", (network.destination, port))
        trace.wait_for(lambda: trace.out.count('"udp_rcv"') + programs.missed() >= count)
        events = ended(trace)
    may_lack = missed(trace)
    followed = [event for event in events if event["packet"] is not None]
    found = ways(followed)
    assert list(found) == [Skb(number, 0) for number in range(1, room + 1)]
    assert all(in_order(passed, way) for passed in found.values())
    assert 0 <= room * len(way) - len(followed) <= may_lack
    first = [event["tuple"]["sport"] for event in followed if event["func"] == "ip_rcv"]
    assert first == sorted(first)
    assert may_lack or first == [10_000 + number for number in range(room)]
    account = trace.account()
    assert 0 <= count - room - account["not_followed"] <= may_lack
    assert account["waiting"] or may_lack


@pytest.mark.three_kernels
def test_no_room_for_a_clone(network: Network, pwru: Start) -> None:
    """Whoever reads beside gets a clone, which is not followed: nothing else would ever be seen of it."""
    port = 9998
    funcs = "--filter-func", "__ip_local_out|udp_rcv"
    with inside(network.server):
        reader = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
    reader.bind((network.server_device, 0x0003))
    with (
        reader,
        bound(network.server, port) as server,
        bound(network.client) as client,
        follow(pwru, "--follow-packets=1", *funcs, f"udp dst port {port}") as trace,
    ):
        client.sendto(b"x", (network.destination, port))
        server.recv(100)
        events = ended(trace)
    assert ways(events) == {Skb(1, 0): ["__ip_local_out", "udp_rcv"]}
    account = trace.account()
    assert (account["not_followed"], account["skbs_not_followed"]) == (0, 1)


@pytest.mark.three_kernels
def test_at_tracepoints(network: Network, pwru: Start) -> None:
    """They show where an skb ends, but not what is made of it."""
    with follow(pwru, "--backend=tracepoint", f"icmp and dst host {network.destination}") as trace:
        network.ping()
        events = ended(trace)
    way = [event["func"].removeprefix("tracepoint:") for event in events]
    assert ways(events).keys() == {Skb(1, 0)}
    assert way[0] == "net_dev_queue"
    assert way[-1] == "consume_skb"
    assert [event["tracked_by"] for event in events] == ["filter", *["skb"] * (len(events) - 1)]
    assert "Following does not see here: clones, copies and segments, " in trace.err
