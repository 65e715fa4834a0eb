"""Filters on what a tunnel carries, where this kernel encapsulates it and where it arrives."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tests.unit.filter.tunnels import CASES, Tunnels, outer4
from vmtest.network import Network

from .tracing import Start, Trace, fails
from .tunnels import LOCAL, REMOTE, tunnel

pytestmark = pytest.mark.two_kernels


class TestTunnels(Tunnels):
    pass


MAC = "02:00:00:00:00:07"
PING_INSIDE, UDP_INSIDE, ALONE = "ping", "udp", "ping that is in no tunnel"


@pytest.mark.parametrize("kind", ["vxlan", "geneve", "gre", "ipip"])
def test_tunnel(network: Network, pwru: Start, kind: str) -> None:
    """Inside are a ping and a UDP packet of 28 bytes, counted from IP; another ping is in no tunnel."""
    has_mac = kind in ("vxlan", "geneve")
    wanted = {("l3", "icmp"): {PING_INSIDE, ALONE}, ("l3", "len == 28"): {UDP_INSIDE, ALONE}}
    if has_mac:
        wanted |= {
            ("l2", f"ether src {MAC} and icmp"): {PING_INSIDE, ALONE},
            ("l2", f"ether dst {MAC}"): {ALONE},
            ("l2", "len == 42"): {UDP_INSIDE, ALONE},
        }
    else:
        wanted |= {("l2", f"ether dst {MAC}"): {UDP_INSIDE, PING_INSIDE, ALONE}}
    flags = "--filter-func=dev_hard_start_xmit", "--filter-ifname=v0", "--filter-netns=/run/netns/client"
    output = "--output-json", "--output-tunnel"
    outer = f"ip and src host {network.source}"
    with tunnel(network, kind, MAC if has_mac else None), ExitStack() as stack:
        traces = {
            (layer, text): stack.enter_context(pwru(*flags, *output, f"--filter-tunnel-pcap-{layer}", text, outer))
            for layer, text in wanted
        }
        # At the end of the tunnel nothing is left of the outer headers that would match.
        received = stack.enter_context(pwru("--filter-func=icmp_rcv", f"icmp and host {REMOTE}"))
        network.ping(to=REMOTE)
        code = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ({REMOTE!r}, 8))"
        network.python(network.client, code)
        network.ping()
        for trace in (*traces.values(), received):
            assert trace.stop() == 0
    forth, back = f"{LOCAL}:0->{REMOTE}:0(icmp)", f"{REMOTE}:0->{LOCAL}:0(icmp)"
    assert [row["tuple"] for row in received.rows()] == [forth, back, back]  # nobody listens to UDP
    assert {key: kinds_of_packets(trace) for key, trace in traces.items()} == wanted


ARRIVING = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("v0", 0))
for line in sys.argv[1].split():
    s.send(bytes([255] * 6 + [2] * 6 + [8, 0]) + bytes.fromhex(line))
"""


def test_tunnels_of_packets_that_arrive(network: Network, pwru: Start) -> None:
    """Nothing in their skbs says where the inner packet is, as this kernel did not make them."""
    frames = {f"10.6.0.{number}": outer4(case) for number, case in enumerate(CASES.values(), 1)}
    packets = " ".join((data[:12] + socket.inet_aton(source) + data[16:]).hex() for source, data in frames.items())
    known = {source for source, case in zip(frames, CASES.values(), strict=True) if case.network is not None}
    framed = {source for source, case in zip(frames, CASES.values(), strict=True) if case.mac is not None}
    wanted = {
        ("l3", "udp dst port 8"): set(frames),
        ("l3", "udp dst port 9"): frames.keys() - known,
        ("l2", "ether dst 00:00:00:00:00:00"): set(frames),
        ("l2", "ether dst 00:00:00:00:00:01"): frames.keys() - framed,
    }
    with ExitStack() as stack:
        traces = {
            (layer, text): stack.enter_context(
                pwru(
                    *("--filter-func=ip_rcv", "--output-json", "--output-tunnel"),
                    *(f"--filter-tunnel-pcap-{layer}", text, "src net 10.6.0.0/24"),
                )
            )
            for layer, text in wanted
        }
        network.run(network.client, "python3", "-c", ARRIVING, packets)
        for trace in traces.values():
            assert trace.stop() == 0
            assert "what other tunnels carry passes" in trace.err
    for key, trace in traces.items():
        events = trace.objects()
        assert {event["tuple"]["saddr"] for event in events} == wanted[key], key
        assert all(bool(event["tunnel_tuple"]) == (event["tuple"]["saddr"] in known) for event in events)


def kinds_of_packets(trace: Trace) -> set[str]:
    """Which of the packets above were seen; ignores the kernel's neighbour discovery, also inside the tunnel."""
    kinds = set()
    for event in trace.objects():
        inner, outer = event["tunnel_tuple"], event["tuple"]["proto"]
        if inner and inner["saddr"] == LOCAL:
            kinds.add({1: PING_INSIDE, 17: UDP_INSIDE}[inner["proto"]])
        elif outer == 1:
            kinds.add(ALONE)
    return kinds


def test_tunnel_without_a_link_layer() -> None:
    line = fails("--filter-tunnel-pcap-l3", "arp")
    assert line.startswith("pwru: --filter-tunnel-pcap-l3: pcap filter 'arp': "), line
