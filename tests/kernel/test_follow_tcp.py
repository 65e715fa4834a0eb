"""What TCP sends, followed: it is cut into segments, merged where it is received, and sent again when it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmtest.network import Network

from .following import Event, Relation, Skb, at, distinct, ended, follow, of, relations, skb, ways
from .topology import connection, has_on, nft, offload, received, rule
from .tracing import Start

pytestmark = pytest.mark.three_kernels

PORT = 5001
SIZE = 1 << 16
TCP_HEADER = 32  # with the option of timestamps
HEADERS = 20 + TCP_HEADER
TO = f"tcp dst port {PORT}"


@contextmanager
def segmented(network: Network) -> Iterator[None]:
    """The client's device wants packets of its MTU, so the kernel cuts them before."""
    with offload(network.client, network.client_device, "tso", "off"):
        yield


def send(network: Network, size: int = SIZE) -> None:
    with connection(f"{network.client}->{network.server}", network.destination, PORT) as (client, server):
        client.sendall(bytes(size))
        received(server, size)


def test_segments(network: Network, pwru: Start) -> None:
    """Each segment is numbered, and followed by itself."""
    way = ["ip_rcv", "ip_local_deliver", "tcp_v4_rcv"]
    funcs = "--filter-func", "|".join(["__tcp_transmit_skb", "__ip_local_out", *way])
    with segmented(network), follow(pwru, *funcs, TO) as trace:
        send(network)
        events = ended(trace)
    cut = [relation for relation in relations(events) if relation.kind == "segment"]
    wholes = distinct(relation.parent for relation in cut)
    assert wholes
    # All that is received was sent as a whole, or is a segment of what was.
    for event in at(events, "ip_rcv"):
        assert event["packet"] in {other["packet"] for other in at(events, "__ip_local_out")}
    for whole in wholes:
        children = [relation for relation in cut if relation.parent == whole]
        assert [relation.segment for relation in children] == list(range(1, len(children) + 1))
        assert len(children) > 1
        assert {relation.child.packet for relation in children} == {whole.packet}
        (sent,) = at(of(events, whole), "__ip_local_out")
        data = 0
        for relation in children:
            own = of(events, relation.child)
            assert [event["func"] for event in own] == way
            assert {event["segment"] for event in own} == {relation.segment}
            assert own[0]["tracked_by"] == "relation"
            data += own[0]["len"] - HEADERS
        assert data == sent["len"] - HEADERS


def test_what_tcp_keeps(network: Network, pwru: Start) -> None:
    """TCP sends a clone of what it keeps until that is acknowledged."""
    funcs = "--filter-func", "__tcp_transmit_skb|__ip_local_out|ip_rcv"
    with follow(pwru, *funcs, TO) as trace:
        with connection(f"{network.client}->{network.server}", network.destination, PORT) as (client, server):
            client.sendall(bytes(500))
            received(server, 500)
        events = ended(trace)
    (kept,) = [event for event in at(events, "__tcp_transmit_skb") if event["len"] == 500]
    (sent,) = [event for event in at(events, "__ip_local_out") if event["len"] == 500 + HEADERS]
    assert Relation("clone", skb(sent), skb(kept), 0) in relations(events)
    assert sent["packet"] == kept["packet"]
    assert ways(events)[skb(sent)] == ["__ip_local_out", "ip_rcv"]
    assert sent["transmission"] == 1


@pytest.mark.differs
def test_gro(network: Network, pwru: Start) -> None:
    """What the receiver merges is told, and into what; the merged one goes on."""
    netns, device = network.server, network.server_device
    if has_on(netns, device, "gro"):
        # Commit d3256efd8e8b ("veth: allow enabling NAPI even without XDP"), in v5.13, from which on it is off.
        pytest.skip("veth has no GRO here")
    # Whether an skb was merged is known only if it is seen in no other function after that: all are traced.
    size = SIZE // 4
    with segmented(network), offload(netns, device, "gro", "on"), follow(pwru, TO) as trace:
        send(network, size)
        events = ended(trace)
    came = {skb(event): event["len"] for event in at(events, "tcp_v4_rcv")}
    wholes = {each for each, length in came.items() if length > 1500}
    assert wholes
    # TCP merges what has come, too: on its way into the socket's queue.
    by_gro = [relation for relation in relations(events) if relation.kind == "merged" and relation.child not in came]
    assert {relation.parent for relation in by_gro} == wholes
    for whole in wholes:
        parts = [relation.child for relation in by_gro if relation.parent == whole]
        assert len(set(parts)) == len(parts)
        assert len(parts) + 1 == -(-(came[whole] - TCP_HEADER) // (1500 - HEADERS))


def test_retransmission(network: Network, pwru: Start) -> None:
    """What is sent again is the same packet: its second transmission, by another skb."""
    # The first of them is dropped.
    drop = rule("input", f"tcp dport {PORT} meta length {500 + HEADERS} numgen inc mod 1000 0 drop")
    funcs = "--filter-func", "__tcp_transmit_skb|__ip_local_out|ip_rcv|tcp_v4_rcv"
    with nft(network.server, drop), follow(pwru, *funcs, TO) as trace:
        with connection(f"{network.client}->{network.server}", network.destination, PORT) as (client, server):
            client.sendall(bytes(500))
            received(server, 500)
        events = ended(trace)
    made = [event for event in at(events, "__tcp_transmit_skb") if event["len"] == 500]
    came = [event for event in at(events, "ip_rcv") if event["len"] == 500 + HEADERS]
    assert [event["transmission"] for event in came] == [1, 2]
    assert len({event["packet"] for event in (*made, *came)}) == 1
    # TCP keeps one skb. Each transmission is a clone of it, even if both had the same address.
    assert skb(made[0]) == skb(made[1])
    assert len({skb(event) for event in came}) == 2
    clones = [Relation("clone", skb(event), skb(made[0]), 0) for event in came]
    assert [relation for relation in relations(events) if relation in clones] == clones
    lost, delivered = (of(events, skb(event)) for event in came)
    assert [functions(each) for each in (lost, delivered)] == [
        ["__ip_local_out", "ip_rcv"],
        ["__ip_local_out", "ip_rcv", "tcp_v4_rcv"],
    ]
    assert Skb(lost[0]["packet"], 0) in ways(events)


def functions(events: list[Event]) -> list[str]:
    return [event["func"] for event in events]
