"""Packets one by one: what became of each, its way and its stages, live and from a recording."""

from __future__ import annotations

import re
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from pwru.record.stages import stage_of
from tests.conformance.traffic import DROPPED, PORT, TRAFFIC
from vmtest.network import Network, inside

from .topology import RIGHT, ROUTER_LEFT, connection, nft, received, router, rule, udp
from .tracing import Start, Trace
from .tunnels import REMOTE, tunnel

pytestmark = pytest.mark.three_kernels

WAY = (
    "--filter-func",
    "ip_output|nf_hook_slow|dev_hard_start_xmit|__netif_receive_skb|ip_rcv|ip_local_deliver|udp_rcv|"
    "skb_consume_udp|__consume_stateless_skb|__tcp_transmit_skb|skb_clone|tcp_v4_rcv|tcp_queue_rcv|"
    "skb_copy_datagram_iter|kfree_skb.*|sk_skb_reason_drop|skb_release_head_state|kfree_skbmem",
)
CLIENT_PORT, SERVICE = 4000, 5000
DROP = rule("input", f"udp dport {DROPPED} drop")
NAT = f"""
    chain prerouting {{
        type nat hook prerouting priority -100
        udp dport {SERVICE} dnat to {RIGHT}:{PORT}
    }}
"""


def blocks(trace: Trace) -> list[list[str]]:
    """Stop a trace and return the lines of each packet."""
    assert trace.stop() == 0
    print(trace.err)  # shown if the test fails
    return split(trace.out)


def split(text: str) -> list[list[str]]:
    return [block.splitlines() for block in text.split("\n\n") if block]


def stages(block: list[str]) -> list[str]:
    """The stages of a packet, without their times and functions."""
    return [m[1].rstrip() for line in block if (m := re.match(r" +[\d.]+ [µm]?s +(\S.{,23}?)(  |$)", line))]


def test_a_drop(network: Network, pwru: Start) -> None:
    with (
        nft(network.server, DROP),
        pwru("--group", *WAY, f"udp dst port {DROPPED}") as trace,
        udp(network.client, CLIENT_PORT) as client,
    ):
        client.sendto(b"x", (network.destination, DROPPED))
        trace.wait_for(lambda: trace.out.endswith("\n\n"))
        ((headline, *way),) = blocks(trace)
    flow = rf"{re.escape(network.source)}:{CLIENT_PORT} → {re.escape(network.destination)}:{DROPPED} udp"
    assert re.fullmatch(
        rf"#1 {flow}, python3?:\d+, [\d.]+ [µm]?s, DROPPED( NETFILTER_DROP)? in \w+(\[nf_tables\])?", headline
    )
    places = [line for line in way if "▸" in line]
    assert re.fullmatch(rf" +▸ netns \d+ \({network.client}\) {network.client_device}", places[0])
    assert re.fullmatch(rf" +▸ netns \d+ \({network.server}\) {network.server_device}", places[-1])
    assert way[1].split() == ["ip_output", "len", "29"]  # before that it has no headers, and does not match
    steps = [line for line in way[2:] if "▸" not in line]
    assert all(re.match(r" *[\d.]+ [µm]?s    \w+", line) for line in steps)
    assert any("dev_hard_start_xmit  len 43" in line for line in steps)


def test_stages(network: Network, pwru: Start) -> None:
    with (
        pwru("--stages", *WAY, f"udp dst port {PORT}") as trace,
        udp(network.client, CLIENT_PORT) as client,
        udp(network.server, PORT) as server,
    ):
        client.sendto(b"x", (network.destination, PORT))
        server.recv(100)
        trace.wait_for(lambda: trace.out.endswith("\n\n"))
        ((headline, *way),) = blocks(trace)
    assert re.search(r", delivered to python3?:\d+$", headline)
    told = [stage for stage in stages(way) if not stage.startswith("netfilter")]
    assert [stage.partition(" to ")[0] for stage in told] == [
        *("IP out", "driver", "receive", "IP in", "UDP receive", "delivered")
    ]


def test_a_connection(network: Network, pwru: Start) -> None:
    """What TCP sends is a clone; what it keeps ends with the acknowledgement."""
    with (
        connection(f"{network.client}->{network.server}", network.destination, PORT) as (client, server),
        pwru("--group", *WAY, f"tcp dst port {PORT} and greater 200") as trace,
    ):
        client.sendall(bytes(500))
        received(server, 500)
        trace.wait_for(lambda: "delivered to" in trace.out)
        ((headline, *way), *_) = blocks(trace)
    assert re.search(r" tcp (PSH\|)?ACK, .*, delivered to python3?:\d+$", headline), headline
    assert next(line.strip() for line in way if "└" in line).startswith("└ #1b clone of #1, after ")


def test_a_recording_has_the_same_blocks(pwru: Start, tmp_path: Path) -> None:
    file = str(tmp_path / "trace.pwru")
    with ExitStack() as stack:
        stack.enter_context(router())
        stack.enter_context(nft("router", NAT))
        trace = stack.enter_context(pwru("-w", file, "--print", "--group", *WAY, f"udp port {SERVICE}"))
        client, server = stack.enter_context(udp("left", CLIENT_PORT)), stack.enter_context(udp("right", PORT))
        client.sendto(b"request", (ROUTER_LEFT, SERVICE))
        server.recv(100)
        trace.wait_for(lambda: trace.out.endswith("\n\n"))
        live = blocks(trace)
    assert f"{ROUTER_LEFT}:{SERVICE}" in live[0][0]
    assert any(f"→ {RIGHT}:{PORT} udp" in line for line in live[0][1:])
    again = subprocess.run(["pwru", "-r", file, "--group"], capture_output=True, text=True, check=True)
    assert split(again.stdout) == live


def test_common_traffic_is_in_stages(network: Network, pwru: Start) -> None:
    """Each function that it passes is of a stage, or known to be internal to whatever stage."""
    flags = "--group", "--output-json", "--all-kmods"
    with ExitStack() as stack:
        stack.enter_context(tunnel(network, "vxlan"))
        stack.enter_context(router())
        stack.enter_context(nft("router", NAT))
        stack.enter_context(nft(network.server, DROP))
        trace = stack.enter_context(pwru(*flags, "ip net 10.0.0.0/8 or ip6 net fd09::/64"))
        for send in TRAFFIC.values():
            send()
        with udp("left", CLIENT_PORT) as client, udp("right", PORT) as server:
            client.sendto(b"request", (ROUTER_LEFT, SERVICE))
            server.recv(100)
        with udp(network.client, CLIENT_PORT) as client, udp(network.server, PORT) as server:
            client.sendto(b"x", (REMOTE, PORT))
            server.recv(100)
        assert trace.stop() in (0, 3)
        packets = trace.objects()
    functions = {event["func"] for packet in packets for event in packet["events"]}
    assert sorted(function for function in functions if stage_of(function) is None) == []
    passed = {stage["stage"] for packet in packets for skb in packet["skbs"] for stage in skb["stages"]}
    assert passed >= {
        *("TCP send", "UDP send", "IP out", "netfilter", "neighbour", "qdisc", "driver", "softirq queue", "receive"),
        *("IP in", "routing", "IP forward", "IP fragmentation", "IP reassembly", "UDP receive", "TCP receive"),
        *("socket queue", "delivered", "dropped", "ICMP receive", "tunnel", "GSO", "GRO"),
    }
    assert "other" not in passed
    assert {packet["end"] for packet in packets} >= {"dropped", "ended"}


def test_a_reader_beside_is_not_whom_it_is_for(network: Network, pwru: Start) -> None:
    """A packet that is dropped, and read by a sniffer, is dropped."""
    with inside(network.server):
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
    with sniffer, nft(network.server, DROP), pwru("--group", *WAY, f"udp dst port {DROPPED}") as trace:
        sniffer.bind((network.server_device, 0x0003))
        with udp(network.client, CLIENT_PORT) as client:
            client.sendto(b"x", (network.destination, DROPPED))
        while len(sniffer.recv(2000)) != len(b"x") + 42:
            pass
        trace.wait_for(lambda: trace.out.endswith("\n\n"))
        ((headline, *way),) = blocks(trace)
    assert re.search(r"DROPPED.* \(#1\)$", headline)
    assert any("#1b clone of #1" in line for line in way)
