"""Packets that programs of XDP send on are followed: back to where they came from, or by another device."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from pwru.kernel import netns
from vmtest.network import Network

from .bpf_programs import programs, put_first, without_btf, xdp
from .following import Event, Relation, Skb, ended, follow, func, packets, relations
from .topology import join, namespaces
from .tracing import Start, Trace

BPF_PROG_TYPE_XDP, XDP_PASS = 6, 2
WAY = ["__ip_local_out", "dev_hard_start_xmit"]  # of the sender
PASSES = ["passes_every_frame_on"] * 2
# What a device hands its packets to, by the kernel and by what the device does. One of them is `received` below.
RECEIVES = "napi_gro_receive", "gro_receive_skb", "netif_rx", "__netif_rx"


def frames(pwru: Start, network: Network) -> Trace:
    """A trace of these functions and of the programs; the packets match their whole way."""
    few = "--filter-trace-xdp", "--filter-func", "|".join((*WAY, *RECEIVES))
    return follow(pwru, *few, f"icmp and dst host {network.destination}")


def ping(network: Network) -> None:
    network.run(network.client, "ping", "-n", "-c1", "-W1", network.destination, check=False)


def came(trace: Trace) -> bool:
    """Whether the packet was received after a program of XDP had sent it on."""
    return any(f'"{name}"' in trace.out.rpartition("(xdp)")[2] for name in RECEIVES)


def way(events: list[Event]) -> list[str]:
    assert packets(events) == [1]
    return ["received" if func(event) in RECEIVES else func(event) for event in events]


@pytest.mark.three_kernels
def test_to_another_program(network: Network, pwru: Start) -> None:
    """What XDP_TX sends back is a frame at the other end, too, and then an skb."""
    with (
        programs("xdp") as folder,
        xdp(network, folder / "returns_frames"),
        xdp(network, folder / "passes_every_frame_on", at=(network.client, network.client_device)),
        frames(pwru, network) as trace,
    ):
        ping(network)
        trace.wait_for(lambda: came(trace))
        events = ended(trace)
    assert way(events) == [*WAY, *["returns_frames"] * 2, *PASSES, "received"]
    assert [event.get("verdict") for event in events[2:6]] == [None, "XDP_TX", None, "XDP_PASS"]
    assert {event["tracked_by"] for event in events[2:]} == {"xdp"}
    sender, frame, received = events[0], events[4], events[6]
    assert relations(events)[-2:] == [
        Relation("xdp", Skb(1, frame["instance"]), Skb(1, events[3]["instance"]), 0),
        Relation("xdp", Skb(1, received["instance"]), Skb(1, frame["instance"]), 0),
    ]
    assert len({event["instance"] for event in (sender, frame, received)}) == 3


@pytest.mark.two_kernels
def test_to_an_skb(network: Network, pwru: Start) -> None:
    """The program at the other end cannot be traced."""
    with (
        programs("xdp") as folder,
        without_btf(folder / "passes", BPF_PROG_TYPE_XDP, XDP_PASS) as passes,
        xdp(network, folder / "returns_frames"),
        xdp(network, passes, at=(network.client, network.client_device)),
        frames(pwru, network) as trace,
    ):
        ping(network)
        trace.wait_for(lambda: came(trace))
        events = ended(trace)
    assert way(events) == [*WAY, *["returns_frames"] * 2, "received"]
    sent, received = events[3], events[4]
    assert relations(events)[-1] == Relation("xdp", Skb(1, received["instance"]), Skb(1, sent["instance"]), 0)


@pytest.mark.two_kernels
def test_to_another_device(network: Network, pwru: Start) -> None:
    with ExitStack() as made:
        made.enter_context(namespaces("beyond"))
        join((network.server, "w0", ""), ("beyond", "w1", ""))
        folder = made.enter_context(programs("xdp"))
        put_first(folder / "maps/devices", netns.ifindex("w0", f"/run/netns/{network.server}"), network.server)
        made.enter_context(xdp(network, folder / "passes_every_frame_on", at=("beyond", "w1")))
        made.enter_context(xdp(network, folder / "sends_frames_elsewhere"))
        trace = made.enter_context(frames(pwru, network))
        ping(network)
        trace.wait_for(lambda: came(trace))
        events = ended(trace)
    assert way(events) == [*WAY, *["sends_frames_elsewhere"] * 2, *PASSES, "received"]
    assert events[3]["verdict"] == "XDP_REDIRECT"
    assert [event["iface"].partition(":")[0] for event in events[2:]] == ["v1", "v1", "w1", "w1", "w1"]


@pytest.mark.two_kernels
def test_generic(network: Network, pwru: Start) -> None:
    """The frame is the skb all the time, which is sent back as it is."""
    with (
        programs("xdp") as folder,
        xdp(network, folder / "returns_frames", "xdpgeneric"),
        frames(pwru, network) as trace,
    ):
        ping(network)
        trace.wait_for(lambda: came(trace))
        events = ended(trace)
    assert way(events) == [*WAY, "received", *["returns_frames"] * 2, "received"]
    assert {event["instance"] for event in events} == {0}
    assert relations(events) == []
