"""--filter-trace-xdp: programs of XDP, whose packets are no skbs."""

from __future__ import annotations

import base64

import pytest

from vmtest.network import Network

from .bpf_programs import programs, xdp
from .packets import netns_inode
from .tracing import Start

FEW = "--filter-func", "ip_rcv", "--output-json"
QUEUE_0 = "xdp->rxq->dev->name[0] == 0x76 && xdp->rxq->queue_index == 0"  # v1
VERDICTS = {
    "passes_every_frame_on": "XDP_PASS",
    "drops_frames": "XDP_DROP",
    "returns_frames": "XDP_TX",
}


def ping(network: Network) -> None:
    network.run(network.client, "ping", "-n", "-c1", "-W1", network.destination, check=False)


@pytest.mark.two_kernels
@pytest.mark.parametrize(("mode", "name"), [*(("xdpdrv", name) for name in VERDICTS), ("xdpgeneric", "drops_frames")])
@pytest.mark.usefixtures("nothing_left")
def test_verdicts(mode: str, name: str, network: Network, pwru: Start) -> None:
    with (
        programs("xdp") as folder,
        xdp(network, folder / name, mode),
        pwru("--filter-trace-xdp", "--output-payload", "34", *FEW, "icmp") as trace,
    ):
        ping(network)
        assert trace.stop() == 0
    entry, leave = [event for event in trace.objects() if event["func"] == f"{name}(xdp)"][:2]
    assert (entry.get("verdict"), leave["verdict"]) == (None, VERDICTS[name])
    for event in (entry, leave):
        assert event["netns"] == netns_inode(network.server)
        assert event["iface"].startswith(f"{network.server_device}:")
        assert (event["proto"], event["len"], event["mark"], event["mtu"]) == (0x0800, 98, 0, 1500)
        assert (event["tuple"]["saddr"], event["tuple"]["daddr"]) == (network.source, network.destination)
        assert (event["payload_has_mac"], event["payload_len"]) == (True, 98)
        assert base64.b64decode(event["payload"])[12:15] == b"\x08\x00\x45"
    assert any(event["func"] == "ip_rcv" for event in trace.objects()) == (VERDICTS[name] == "XDP_PASS")


@pytest.mark.two_kernels
@pytest.mark.parametrize(
    ("matching", "other"),
    [
        (["icmp"], ["tcp"]),
        (["--filter-ifname", "v1", "--filter-netns", "/run/netns/server", "icmp"], ["--filter-ifname", "lo", "icmp"]),
        (["ether", "proto", "0x0800", "and", "greater", "98"], ["greater", "99"]),
        ([], ["--filter-mark", "1"]),
        (["--filter-xdp-expr", QUEUE_0, "icmp"], ["--filter-xdp-expr", "xdp->rxq->queue_index != 0", "icmp"]),
    ],
)
def test_filters(matching: list[str], other: list[str], network: Network, pwru: Start) -> None:
    with (
        programs("xdp") as folder,
        xdp(network, folder / "passes_every_frame_on", "xdpdrv"),
        pwru("--filter-trace-xdp", *FEW, *matching) as seen,
        pwru("--filter-trace-xdp", *FEW, *other) as unseen,
    ):
        network.ping()
        assert (seen.stop(), unseen.stop()) == (0, 0)
    assert any("(xdp)" in event["func"] for event in seen.objects())
    assert not any("(xdp)" in event["func"] for event in unseen.objects())


@pytest.mark.two_kernels
def test_all_that_only_an_skb_has_is_zero(network: Network, pwru: Start) -> None:
    flags = (
        "--output-skb",
        "--output-skb-cb",
        "--output-tunnel",
        "--output-skb-metadata=skb->mark,skb->len",
        "--output-stack",
        "--output-caller",
    )
    with (
        programs("xdp") as folder,
        xdp(network, folder / "passes_every_frame_on", "xdpdrv"),
        pwru("--filter-trace-xdp", *flags, *FEW, "icmp") as trace,
    ):
        network.ping()
        assert trace.stop() == 0
    event = next(event for event in trace.objects() if "(xdp)" in event["func"])
    assert event["cb"] == [0] * 5
    assert event["tunnel_tuple"] is None
    assert event["skb_metadata"] is None
    assert event["caller_func"]
    assert event["stack"][0].startswith(event["caller_func"].partition("[")[0] + "+")


@pytest.mark.three_kernels
def test_values_of_fields(network: Network, pwru: Start) -> None:
    """A frame has its own and an skb its own; --filter-xdp-expr lets skbs pass."""
    flags = "--output-skb-metadata=skb->len", "--output-xdp-metadata=xdp->rxq->dev->mtu,xdp->rxq->queue_index"
    with (
        programs("xdp") as folder,
        xdp(network, folder / "passes_every_frame_on", "xdpdrv"),
        pwru("--filter-trace-xdp", *flags, "--filter-xdp-expr", QUEUE_0, *FEW, "icmp") as trace,
        pwru("--filter-trace-xdp", *flags, *FEW, "--output-json=false", "icmp") as text,
    ):
        network.ping()
        assert (trace.stop(), text.stop()) == (0, 0)
    events = trace.objects()
    frame = next(event for event in events if "(xdp)" in event["func"])
    skb = next(event for event in events if event["func"] == "ip_rcv")
    frames = {"xdp->rxq->dev->mtu": 1500, "xdp->rxq->queue_index": 0}
    assert (frame["skb_metadata"], frame["xdp_metadata"]) == (None, frames)
    assert (skb["skb_metadata"], skb["xdp_metadata"]) == ({"skb->len": 84}, None)
    rows = text.out.splitlines()
    assert any(row.endswith("(xdp) XDP_PASS mtu=1500 queue_index=0") for row in rows), rows
    assert any(row.endswith("ip_rcv len=84") for row in rows), rows


@pytest.mark.two_kernels
@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_following(mode: str, network: Network, pwru: Start) -> None:
    """An skb that a program of XDP gets as a frame, and gives back, is one packet all the way."""
    way = ["__ip_local_out", "dev_hard_start_xmit", *["passes_every_frame_on(xdp)"] * 2, "icmp_rcv"]
    with (
        programs("xdp") as folder,
        xdp(network, folder / "passes_every_frame_on", mode),
        pwru("--filter-trace-xdp", "--follow", "--output-json", f"icmp and dst host {network.destination}") as trace,
    ):
        network.ping()
        assert trace.stop() == 0
    events = [event for event in trace.objects() if event["func"] in way]
    assert [event["func"] for event in events] == way
    assert {event["packet"] for event in events} == {1}
    assert [event["tracked_by"] for event in events if "(xdp)" in event["func"]] == ["xdp", "xdp"]
    assert events[3]["verdict"] == "XDP_PASS"


@pytest.mark.two_kernels
def test_following_to_a_drop(network: Network, pwru: Start) -> None:
    with (
        programs("xdp") as folder,
        xdp(network, folder / "drops_frames", "xdpdrv"),
        pwru("--filter-trace-xdp", "--follow", "--output-json", f"icmp and dst host {network.destination}") as trace,
    ):
        ping(network)
        assert trace.stop() == 0
    events = trace.objects()
    assert {event["packet"] for event in events} == {1}
    assert any(event.get("verdict") == "XDP_DROP" for event in events)
    assert not any(event["func"] == "icmp_rcv" for event in events)
