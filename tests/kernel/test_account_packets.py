"""How many packets a trace had, which it can say only if it sees each packet's end."""

from __future__ import annotations

import socket

import pytest

from vmtest.network import Network, inside
from vmtest.udp import PORT, Udp

from .backends import BACKENDS
from .tracing import Start

COUNT = 300
DATAGRAMS = f"udp dst port {PORT}"


@pytest.mark.three_kernels
def test_packets_are_counted_one_by_one(pwru: Start, udp: Udp) -> None:
    """Far fewer addresses than packets: each is used again at once."""
    functions = "ip_rcv|.*(_free|release|destruct|kfree|consume|steal|reuse).*"
    with pwru("--output-json", "--timestamp=relative", "--filter-func", functions, DATAGRAMS) as trace:
        udp.send(COUNT)
        assert trace.stop() == 0
    account, events = trace.account(), trace.objects()
    assert (account["packets"], account["packets_exact"]) == (COUNT, True)
    assert "Relative times" not in trace.err
    assert len({event["skb"] for event in events}) < COUNT
    assert all(event["time"] == 0 for event in events if event["func"] == "ip_rcv")


@pytest.mark.one_kernel
def test_packets_that_are_freed_in_bulk_are_counted_one_by_one(pwru: Start, network: Network) -> None:
    """A queueing discipline without room has each freed by kfree_skb_list_reason(), which gives back many at once."""
    network.run(network.client, "tc", "qdisc", "add", "dev", network.client_device, "root", "pfifo", "limit", "0")
    try:
        with (
            pwru("--output-json", "--filter-func=ip_local_out|.*(kfree|release).*", "udp dst port 5353") as trace,
            inside(network.client),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            for _ in range(COUNT):
                sender.sendto(b"data", (network.destination, 5353))
            assert trace.stop() == 0
    finally:
        network.run(network.client, "tc", "qdisc", "delete", "dev", network.client_device, "root")
    assert (trace.account()["packets"], trace.account()["packets_exact"]) == (COUNT, True)
    assert len({event["skb"] for event in trace.objects()}) < COUNT
    assert "kfree_skbmem" not in {event["func"] for event in trace.objects()}


@pytest.mark.three_kernels
def test_what_is_not_seen_is_not_claimed(pwru: Start, udp: Udp) -> None:
    with pwru("--timestamp=relative", "--filter-func=ip_rcv|udp_rcv", DATAGRAMS) as trace:
        udp.send(COUNT)
        assert trace.stop() == 0
    assert f"{2 * COUNT} events of at least " in trace.err
    assert "let --filter-func match skb_release_head_state, too." in trace.err


@pytest.mark.one_kernel
def test_a_filter_on_the_place_does_not_see_the_end(pwru: Start, udp: Udp) -> None:
    with pwru("--backend", BACKENDS[0], "--output-json", "--filter-pid=1", DATAGRAMS) as trace:
        udp.send(1)
        assert trace.stop() == 0
    assert trace.account()["packets_exact"] is False
