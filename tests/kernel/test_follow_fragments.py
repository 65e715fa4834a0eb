"""Packets that are followed while IP cuts them into fragments and puts them together again."""

from __future__ import annotations

import socket

import pytest

from vmtest.network import Network, sh

from .following import at, ended, follow, instances, of, packets, relations, skb
from .topology import RIGHT, router, udp
from .tracing import Start

pytestmark = pytest.mark.three_kernels

PORT = 9999
END = "skb_release_head_state"
UDP_HEADER = 8
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0  # include/uapi/linux/in.h


def test_a_router_cuts(pwru: Start) -> None:
    """The packet is copied piece by piece, and ends."""
    size = 3500
    with router():
        for netns, device in (("left", "l0"), ("router", "r0")):
            sh("ip", "-n", netns, "link", "set", device, "mtu", "4000")
        funcs = "--filter-func", "__ip_local_out|ip_rcv|ip_forward|ip_finish_output2|ip_local_deliver|udp_rcv"
        with follow(pwru, *funcs, f"udp dst port {PORT}") as trace:
            with udp("left") as client, udp("right", PORT) as server:
                client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
                client.sendto(bytes(size), (RIGHT, PORT))
                assert len(server.recv(size)) == size
            events = ended(trace)
    assert packets(events) == [1]
    whole = [event for event in events if event["instance"] == 0]
    assert [event["func"] for event in whole] == ["__ip_local_out", "ip_finish_output2", "ip_rcv", "ip_forward"]
    cut = [relation for relation in relations(events) if relation.kind == "fragment"]
    assert [relation.parent for relation in cut] == [skb(whole[0])] * 3
    assert [relation.segment for relation in cut] == [1, 2, 3]
    for relation in cut:
        own = of(events, relation.child)
        assert {event["segment"] for event in own} >= {relation.segment}
        assert [event["func"] for event in own][:3] == ["ip_finish_output2", "ip_rcv", "ip_local_deliver"]
    (delivered,) = at(events, "udp_rcv")
    assert delivered["len"] == size + UDP_HEADER


@pytest.mark.parametrize("version", [4, 6])
def test_the_sender_cuts(network: Network, pwru: Start, version: int) -> None:
    """It has the packet in pieces already: each of these skbs is sent as a fragment of the first one."""
    size = 4000
    family, to = (socket.AF_INET, network.destination) if version == 4 else (socket.AF_INET6, network.destination6)
    sent, came, read = (
        ("__ip_local_out", "ip_rcv", "udp_rcv") if version == 4 else ("ip6_output", "ipv6_rcv", "udpv6_rcv")
    )
    with (
        follow(pwru, "--filter-func", f"{sent}|{came}|{read}|{END}", f"udp and dst host {to}") as trace,
        udp(network.client, family=family) as client,
        udp(network.server, PORT, family) as server,
    ):
        client.sendto(bytes(size), (to, PORT))
        assert len(server.recv(size)) == size
        events = ended(trace)
    assert packets(events) == [1]
    (whole,) = at(events, sent)
    fragments = at(events, came)
    assert instances(fragments) == [0, 1, 2]
    assert [event["segment"] for event in fragments] == [1, 2, 3]
    assert fragments[0]["instance"] == whole["instance"]
    cut = [relation for relation in relations(events) if relation.kind == "fragment"]
    assert [relation.child for relation in cut] == [skb(event) for event in fragments[1:]]
    (delivered,) = at(events, read)
    assert delivered["len"] == size + UDP_HEADER
    # What was the last fragment is the whole now, and its data is in another skb; the two end with it.
    merged = [relation for relation in relations(events) if relation.kind == "merged"]
    assert [relation.parent for relation in merged] == [skb(delivered)] * 2
    assert merged[0].child == skb(fragments[1])
