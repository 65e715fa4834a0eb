"""Packets that are followed by the kernel stack: through functions without an skb, and where others are worked on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmtest.network import Network
from vmtest.udp import PORT, SOURCE_PORT, Udp

from .following import Event, Skb, at, ended, flow, flows, of, packets, ways
from .topology import udp as bound
from .tracing import Start, Trace, fails

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="return addresses are in a register there")

LOOKUP = "fib_table_lookup"


def by_stack(pwru: Start, *arguments: str) -> Trace:
    return pwru("--filter-track-skb-by-stackid", "--output-json", *arguments)


@pytest.mark.three_kernels
def test_functions_without_an_skb(network: Network, pwru: Start, udp: Udp) -> None:
    """A lookup of a route belongs to the packet for which it is done, not to those of others at the same time."""
    funcs = "--filter-func", "ip_route_input_slow", "--filter-non-skb-funcs", LOOKUP
    with by_stack(pwru, *funcs, f"udp src port {SOURCE_PORT}") as trace:
        for _ in range(10):
            udp.send(2)
            udp.flood(4, 25)
        events = ended(trace)
    assert packets(events) == list(range(1, 21))
    assert flows(events) == [f"{network.source}:{SOURCE_PORT}->{network.destination}:{PORT}"]
    for way in ways(events).values():
        assert way[0] == "ip_route_input_slow"
        assert set(way[1:]) == {LOOKUP}
    assert {event["tracked_by"] for event in at(events, LOOKUP)} == {"stackid"}
    assert {event["instance"] for event in events} == {0}
    assert trace.account()["frames_not_followed"] == 0


@pytest.mark.three_kernels
@pytest.mark.parametrize("both", [False, True], ids=["request", "both"])
def test_a_reply_within_a_request(network: Network, pwru: Start, both: bool) -> None:
    """A host answers a ping below icmp_rcv(): that is told apart, and what is done later is the request's again."""
    way = "icmp_rcv|__dev_queue_xmit|consume_skb|skb_release_head_state"
    further = "--filter-func", way, "--filter-non-skb-funcs", "dst_release,netdev_core_pick_tx"
    echo = f"icmp and dst host {network.destination}"
    with by_stack(pwru, *further, f"({echo}) or (icmp and src host {network.destination})" if both else echo) as trace:
        network.run(network.client, "ping", "-qc1", network.destination)
        trace.wait_for(lambda: '"icmp_rcv"' in trace.out and '"consume_skb"' in trace.out)
        events = ended(trace)
    received = events.index(at(events, "icmp_rcv")[0])
    end = next(n for n, event in enumerate(events) if n > received and event["func"].startswith("skb_release_head"))
    while events[end]["packet"] != 1:
        end += 1
    within = events[received:end]
    request, reply = Skb(1, 0), Skb(2, 0) if both else Skb(1, None)  # type: ignore[arg-type]
    sent = of(within, reply)
    assert [event["func"] for event in sent if event["func"] != "dst_release"] == [
        "__dev_queue_xmit",
        "netdev_core_pick_tx",
    ]
    assert {event["skb"] for event in sent}.isdisjoint(event["skb"] for event in of(events, request))
    first, last = within.index(sent[0]), within.index(sent[-1])
    assert [event["func"] for event in within[first:last]].count("__dev_queue_xmit") == 1
    released = [event for event in within[last + 1 :] if event["func"] == "dst_release"]
    assert released, "icmp_reply() gives back the route after the reply was sent"
    assert {event["packet"] for event in released} == {1}
    assert {event["instance"] for event in released} == {0}
    assert {event["tracked_by"] for event in released} == {"stackid"}


@pytest.mark.three_kernels
def test_after_the_end_of_the_skb(network: Network, pwru: Start) -> None:
    """The skb's address stays; what it was is not read from memory that may be another's."""
    funcs = "--filter-func", "skb_release_head_state", "--filter-non-skb-funcs", "dst_release"
    with by_stack(pwru, *funcs, f"icmp and dst host {network.destination}") as trace:
        network.ip(network.server, "route", "flush", "cache")  # else the packet would hold no reference to its route
        network.run(network.client, "ping", "-qc1", network.destination)
        trace.wait_for(lambda: '"dst_release"' in trace.out)
        events = ended(trace)
    assert ways(events) == {Skb(1, 0): ["skb_release_head_state", "dst_release"]}
    end, after = events
    assert after["skb"] == end["skb"]
    assert flow(end).startswith(network.source)
    assert after["tuple"] is None
    assert after["len"] == 0


@contextmanager
def mirrors(network: Network, count: int) -> Iterator[None]:
    """Devices d0, d1 …: each sends a clone of what it sends to the next one, from within its own function."""
    for number in range(count + 1):
        network.ip(network.client, "link", "add", f"d{number}", "type", "dummy")
        network.run(network.client, "sysctl", "-qw", f"net.ipv6.conf.d{number}.disable_ipv6=1")
        network.ip(network.client, "link", "set", f"d{number}", "up")
    for number in range(count):
        device = "dev", f"d{number}"
        action = "matchall", "action", "mirred", "egress", "mirror", "dev", f"d{number + 1}"
        network.run(network.client, "tc", "qdisc", "add", *device, "clsact")
        network.run(network.client, "tc", "filter", "add", *device, "egress", *action)
    network.ip(network.client, "address", "add", "10.77.0.1/24", "dev", "d0")
    network.ip(network.client, "neigh", "add", "10.77.0.2", "lladdr", "02:00:00:00:00:02", "dev", "d0")
    yield
    for number in range(count + 1):
        network.ip(network.client, "link", "delete", f"d{number}")


@pytest.mark.one_kernel
@pytest.mark.parametrize(("count", "too_deep"), [(3, 0), (4, 1)])
def test_frames_within_frames(network: Network, pwru: Start, count: int, too_deep: int) -> None:
    """So many packets on one stack are told apart; beyond that it is counted."""
    funcs = "--filter-func", "__dev_queue_xmit", "--filter-non-skb-funcs", "dst_release"
    with mirrors(network, count), by_stack(pwru, *funcs, "--strict", "udp and dst host 10.77.0.2") as trace:
        with bound(network.client) as client:
            client.sendto(b"x", ("10.77.0.2", PORT))
        trace.wait_for(lambda: trace.out.count("dst_release") > count)
        status = trace.stop()
    assert status == (3 if too_deep else 0)
    assert trace.account()["frames_not_followed"] == too_deep
    released = [event["instance"] for event in at(trace.objects(), "dst_release")]
    # The innermost one goes on first; one that has no frame counts as the one around it.
    assert released == [*([count - 1] * too_deep), *range(count - too_deep, -1, -1)]


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--filter-non-skb-funcs", "no_such_function"], "no function is called no_such_function"),
        (["--filter-non-skb-funcs", "rcu_read_lock_held"], "no function is called rcu_read_lock_held"),
        (["--filter-non-skb-funcs", "__stack_chk_fail"], "__stack_chk_fail cannot be traced"),
    ],
)
def test_what_is_no_function(arguments: list[str], says: str) -> None:
    assert says in fails(*arguments)


@pytest.mark.one_kernel
def test_a_function_with_an_skb_is_like_all_others(network: Network, pwru: Start) -> None:
    funcs = "--filter-func", "ip_rcv", "--filter-non-skb-funcs", "icmp_rcv"
    with by_stack(pwru, *funcs, f"icmp and dst host {network.destination}") as trace:
        network.run(network.client, "ping", "-qc1", network.destination)
        trace.wait_for(lambda: '"icmp_rcv"' in trace.out)
        events: list[Event] = ended(trace)
    assert [event["tracked_by"] for event in events] == ["filter", "skb"]
