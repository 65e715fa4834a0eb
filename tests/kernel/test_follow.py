"""Packets that are followed where their headers or their skbs change: NAT, bridges, readers beside, tc, ARP."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmtest.network import Network, inside, sh

from .backends import drop_function
from .following import Relation, Skb, at, distinct, ended, flow, flows, follow, instances, packets, relations, ways
from .leftovers import wait_for
from .packets import netns_inode
from .topology import (
    CLIENT_PORT,
    LEFT,
    NAT,
    PORT,
    RIGHT,
    ROUTER_LEFT,
    ROUTER_RIGHT,
    SERVICE,
    bridge,
    nft,
    router,
    rule,
    run,
    udp,
)
from .tracing import Start

pytestmark = pytest.mark.three_kernels

WAY = ["__ip_local_out", "ip_output", "ip_rcv", "ip_forward", "ip_output", "ip_rcv", "ip_local_deliver", "udp_rcv"]


def test_nat(pwru: Start) -> None:
    """One packet has three tuples. A reply is another packet, and belongs to the trace only if it matches."""
    funcs = "--filter-func", "|".join(distinct(WAY))
    with (
        router(),
        nft("router", NAT),
        follow(pwru, *funcs, f"udp and src host {LEFT} and dst port {SERVICE}") as requests,
        follow(pwru, *funcs, "udp") as everything,
        udp("left", CLIENT_PORT) as client,
        udp("right", PORT) as server,
    ):
        for _ in range(2):
            client.sendto(b"request", (ROUTER_LEFT, SERVICE))
            server.sendto(b"reply", server.recvfrom(100)[1])
            client.recv(100)
        events, both = ended(requests), ended(everything)
    there = [
        f"{LEFT}:{CLIENT_PORT}->{ROUTER_LEFT}:{SERVICE}",
        f"{LEFT}:{CLIENT_PORT}->{RIGHT}:{PORT}",
        f"{ROUTER_RIGHT}:{CLIENT_PORT}->{RIGHT}:{PORT}",
    ]
    back = [
        f"{RIGHT}:{PORT}->{ROUTER_RIGHT}:{CLIENT_PORT}",
        f"{RIGHT}:{PORT}->{LEFT}:{CLIENT_PORT}",
        f"{ROUTER_LEFT}:{SERVICE}->{LEFT}:{CLIENT_PORT}",
    ]
    assert ways(events) == {Skb(1, 0): WAY, Skb(2, 0): WAY}
    assert ways(both) == {Skb(packet, 0): WAY for packet in (1, 2, 3, 4)}
    assert relations(both) == []
    for which, tuples in ((events, [there, there]), (both, [there, back, there, back])):
        for number, expected in enumerate(tuples, 1):
            own = [event for event in which if event["packet"] == number]
            assert flows(own) == expected
            assert [event["tracked_by"] for event in own] == ["filter"] + ["skb"] * (len(WAY) - 1)


def test_a_bridge_floods(pwru: Start) -> None:
    """Each port but the last gets a clone."""
    ether = bytes.fromhex("0200000000990200000000010800")  # to nobody's address, so it goes to all ports
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, 0, 0, 64, 17, 0, socket.inet_aton(LEFT), socket.inet_aton(RIGHT))
    frame = ether + ip + struct.pack("!HHHH", 7, PORT, 28, 0) + bytes(20)
    funcs = "--filter-func", "dev_hard_start_xmit|ip_rcv"
    with bridge(), follow(pwru, *funcs, f"udp dst port {PORT}") as trace:
        with inside("sender"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.sendto(frame, ("s0", 0))
        trace.wait_for(lambda: trace.out.count('"ip_rcv"') >= 3)
        events = ended(trace)
    assert packets(events) == [1]
    assert flows(events) == [f"{LEFT}:7->{RIGHT}:{PORT}"]
    assert {event["iface"].partition(":")[0] for event in at(events, "ip_rcv")} == {"p1", "p2", "p3"}
    way = ["dev_hard_start_xmit", "ip_rcv"]
    assert ways(events) == {Skb(1, 0): ["dev_hard_start_xmit", *way], Skb(1, 1): way, Skb(1, 2): way}
    assert relations(events) == [Relation("clone", Skb(1, number), Skb(1, 0), 0) for number in (1, 2)]


def test_a_reader_beside(network: Network, pwru: Start) -> None:
    """tcpdump and the like get a clone of what a device sends and of what it receives."""
    read = "skb_copy_datagram_iter"
    funcs = "--filter-func", f"__ip_local_out|dev_hard_start_xmit|ip_rcv|udp_rcv|{read}"
    readers = []
    for netns, device in ((network.client, network.client_device), (network.server, network.server_device)):
        with inside(netns):
            readers.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)))  # ETH_P_ALL
        readers[-1].bind((device, 0x0003))
    with follow(pwru, *funcs, f"udp dst port {PORT}") as trace:
        with udp(network.client) as client, udp(network.server, PORT) as server:
            client.sendto(bytes(100), (network.destination, PORT))
            server.recv(1000)
        for reader in readers:
            with reader:
                while len(reader.recv(2000)) != 142:
                    pass
        events = ended(trace)
    assert packets(events) == [1]
    way = ["__ip_local_out", "dev_hard_start_xmit", "ip_rcv", "udp_rcv"]
    assert ways(events) == {Skb(1, 0): way, Skb(1, 1): [read], Skb(1, 2): [read]}
    assert relations(events) == [Relation("clone", Skb(1, number), Skb(1, 0), 0) for number in (1, 2)]


def test_a_copy(pwru: Start) -> None:
    """A rule of nftables sends one of its own to the same host; the headers of the two are not shared."""
    dup = rule("prerouting", f"udp dport {PORT} dup to {RIGHT}")
    funcs = "--filter-func", "__ip_local_out|ip_rcv|ip_forward|udp_rcv"
    with router(), nft("router", dup), follow(pwru, *funcs, f"udp dst port {PORT}") as trace:
        with udp("left") as client, udp("right", PORT) as server:
            client.sendto(bytes(100), (RIGHT, PORT))
            server.recv(1000)
            server.recv(1000)
        events = ended(trace)
    assert packets(events) == [1]
    end = ["ip_rcv", "udp_rcv"]
    assert ways(events) == {
        Skb(1, 0): ["__ip_local_out", "ip_rcv", "ip_forward", *end],
        Skb(1, 1): ["__ip_local_out", *end],
    }
    assert relations(events) == [Relation("copy", Skb(1, 1), Skb(1, 0), 0)]


@contextmanager
def mirred(network: Network, **actions: int) -> Iterator[None]:
    """What v1 receives for these UDP ports is mirrored or redirected to a device d0."""
    netns, device = network.server, network.server_device
    network.ip(netns, "link", "add", "d0", "type", "dummy")
    network.run(netns, "sysctl", "-qw", "net.ipv6.conf.d0.disable_ipv6=1")
    network.ip(netns, "link", "set", "d0", "up")
    network.run(netns, "tc", "qdisc", "add", "dev", device, "clsact")
    for action, port in actions.items():
        match = "protocol", "ip", "flower", "ip_proto", "udp", "dst_port", str(port)
        mirred = "action", "mirred", "egress", action, "dev", "d0"
        network.run(netns, "tc", "filter", "add", "dev", device, "ingress", *match, *mirred)
    yield
    network.run(netns, "tc", "qdisc", "del", "dev", device, "clsact")
    network.ip(netns, "link", "delete", "d0")


def test_tc_mirrors_and_redirects(network: Network, pwru: Start) -> None:
    """A mirror gets a clone; what is redirected goes elsewhere itself."""
    funcs = "--filter-func", "__ip_local_out|dev_hard_start_xmit|ip_rcv"
    with (
        mirred(network, mirror=PORT, redirect=SERVICE),
        follow(pwru, *funcs, f"udp dst port {PORT} or udp dst port {SERVICE}") as trace,
        udp(network.client) as client,
    ):
        for port in (PORT, SERVICE):
            client.sendto(bytes(100), (network.destination, port))
        trace.wait_for(lambda: trace.out.count("d0:") >= 2)
        events = ended(trace)
    assert packets(events) == [1, 2]
    sent = ["__ip_local_out", "dev_hard_start_xmit"]
    assert ways(events) == {
        Skb(1, 0): [*sent, "ip_rcv"],
        Skb(1, 1): ["dev_hard_start_xmit"],
        Skb(2, 0): [*sent, "dev_hard_start_xmit"],
    }
    assert relations(events) == [Relation("clone", Skb(1, 1), Skb(1, 0), 0)]
    assert [event["iface"].partition(":")[0] for event in events if event["packet"] == 2] == ["v0", "v0", "d0"]


NOBODY = "10.9.0.77"


@contextmanager
def unknown_neighbour(network: Network) -> Iterator[None]:
    """The kernel asks for NOBODY again and again."""
    sysctl = "sysctl", "-qw", f"net.ipv4.neigh.{network.client_device}.mcast_solicit={{}}"
    network.run(network.client, *sysctl[:2], sysctl[2].format(1000))
    yield
    network.run(network.client, *sysctl[:2], sysctl[2].format(3))
    sh("ip", "-n", network.client, "neigh", "delete", NOBODY, "dev", network.client_device, check=False)


def asked(network: Network) -> int:
    """How often the kernel has asked for NOBODY."""
    found = re.search(r"probes (\d+)", run(network.client, "ip", "-s", "neigh", "show", NOBODY))
    return int(found[1]) if found else 0


def test_waiting_for_arp(network: Network, pwru: Start) -> None:
    """A packet waits until its neighbour is known; if the trace ends before, its account says so."""
    funcs = "--filter-func", "__ip_local_out|ip_finish_output2|dev_hard_start_xmit|ip_rcv"
    expression = f"udp dst port {PORT} and dst host {NOBODY}"
    address = run(network.server, "cat", f"/sys/class/net/{network.server_device}/address").strip()
    with (
        unknown_neighbour(network),
        follow(pwru, *funcs, expression) as short,
        follow(pwru, *funcs, expression) as trace,
        udp(network.client) as client,
    ):
        client.sendto(bytes(100), (NOBODY, PORT))
        for each in (short, trace):
            each.wait_for(lambda: "ip_finish_output2" in each.out)  # noqa: B023
        before_that = asked(network)
        # Once per second: what was seen in the last second does not wait.
        wait_for(lambda: asked(network) >= before_that + 2)
        before = ended(short)
        network.ip(network.client, *f"neigh replace {NOBODY} lladdr {address} dev {network.client_device}".split())
        trace.wait_for(lambda: '"ip_rcv"' in trace.out)
        events = ended(trace)
    way = ["__ip_local_out", "ip_finish_output2"]
    assert ways(before) == {Skb(1, 0): way}
    (waits,) = [each for each in short.account()["waiting"] if each["instance"] == 0]
    assert (waits["packet"], waits["place"]) == (1, "ip_finish_output2")
    assert ways(events)[Skb(1, 0)] == [*way, "dev_hard_start_xmit", "ip_rcv"]
    assert packets(events) == [1]
    assert {event["netns"] for event in at(events, "ip_rcv")} == {netns_inode(network.server)}
    assert not trace.account()["waiting"]


def test_few_functions(network: Network, pwru: Start) -> None:
    """Where an skb begins and ends is seen, though no function is printed in which that happens."""
    count = 50
    drop = rule("input", f"udp dport {SERVICE} drop")
    with (
        nft(network.server, drop),
        follow(pwru, "--filter-func=ip_rcv", f"udp dst port {PORT}") as one,
        follow(pwru, f"--filter-func={drop_function()}", f"udp dst port {SERVICE}") as drops,
        udp(network.client, CLIENT_PORT) as client,
        udp(network.client) as other,
        udp(network.server, PORT) as server,
    ):
        for _ in range(count):
            client.sendto(bytes(100), (network.destination, PORT))
            other.sendto(bytes(100), (network.destination, SERVICE))
            server.recv(1000)
        events, dropped = ended(one), ended(drops)
    for seen, func in ((events, "ip_rcv"), (dropped, drop_function())):
        assert ways(seen) == {Skb(number, 0): [func] for number in range(1, count + 1)}
        assert {event["tracked_by"] for event in seen} == {"filter"}
        assert relations(seen) == []
    assert {flow(event) for event in events} == {f"{network.source}:{CLIENT_PORT}->{network.destination}:{PORT}"}
    assert instances(events) == [0]
    for trace in (one, drops):
        assert trace.account()["not_followed"] == 0


def test_the_end(network: Network, pwru: Start) -> None:
    """An skb that is being freed has its headers still, and is no new packet for that. With its next use it is one."""
    ends = "skb_release_head_state", "skb_release_data", "kfree_skbmem", "skb_free_datagram", "__consume_stateless_skb"
    with (
        follow(pwru, "--filter-func", "|".join(["ip_rcv", *ends]), f"udp dst port {PORT}") as trace,
        udp(network.client) as client,
        udp(network.server, PORT) as server,
    ):
        for _ in range(3):
            client.sendto(bytes(100), (network.destination, PORT))
            server.recv(1000)
        events = ended(trace)
    assert list(ways(events)) == [Skb(number, 0) for number in (1, 2, 3)]
    assert len({tuple(way) for way in ways(events).values()}) == 1
    assert not trace.account()["waiting"]
