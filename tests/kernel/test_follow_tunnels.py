"""Packets that are followed into tunnels and out of them."""

from __future__ import annotations

import pytest

from vmtest.network import Network

from . import tunnels, wireguard
from .following import Skb, ended, flow, follow, relations, ways
from .packets import netns_inode
from .topology import udp
from .tracing import Start

pytestmark = pytest.mark.three_kernels

PORT, CLIENT_PORT = 9999, 4000
# What a tunnel received is handled in lists before ip_local_deliver().
FUNCS = "--filter-func", "__ip_local_out|dev_hard_start_xmit|ip_local_deliver|udp_rcv"


def through(network: Network, pwru: Start, to: str) -> list[tuple[str, str, str]]:
    """Follow one datagram to `to`, the server's end of a tunnel, by the filter on what the tunnel carries.

    Return the functions that it passes: where, and by which tuple.
    """
    with (
        follow(pwru, *FUNCS, f"udp dst port {PORT} and dst host {to}") as trace,
        udp(network.client, CLIENT_PORT) as client,
        udp(network.server, PORT) as server,
    ):
        client.sendto(bytes(100), (to, PORT))
        server.recv(1000)
        events = ended(trace)
    assert set(ways(events)) == {Skb(1, 0)}
    assert relations(events) == []
    names = {netns_inode(network.client): "client", netns_inode(network.server): "server"}
    return [(names[event["netns"]], event["func"], flow(event)) for event in events]


@pytest.mark.parametrize("kind", ["vxlan", "geneve", "gre", "ipip"])
def test_a_tunnel(network: Network, pwru: Start, kind: str) -> None:
    """The packet is one, whichever of its headers is the first: inner, outer, outer, inner."""
    with tunnels.tunnel(network, kind):
        seen = through(network, pwru, tunnels.REMOTE)
    inner = f"{tunnels.LOCAL}:{CLIENT_PORT}->{tunnels.REMOTE}:{PORT}"
    check(network, seen, inner, udp_outside=kind in ("vxlan", "geneve"))


def test_wireguard(network: Network, pwru: Start) -> None:
    """What it encrypts and decrypts stays in its skb, though another process goes on with it."""
    with wireguard.wireguard(network):
        seen = through(network, pwru, wireguard.REMOTE)
    check(network, seen, f"{wireguard.LOCAL}:{CLIENT_PORT}->{wireguard.REMOTE}:{PORT}", udp_outside=True)


def check(network: Network, seen: list[tuple[str, str, str]], inner: str, udp_outside: bool) -> None:
    way = [
        ("client", "__ip_local_out", "inner"),
        ("client", "dev_hard_start_xmit", "inner"),
        ("client", "__ip_local_out", "outer"),
        ("client", "dev_hard_start_xmit", "outer"),
        ("server", "ip_local_deliver", "outer"),
        *([("server", "udp_rcv", "outer")] if udp_outside else []),
        ("server", "ip_local_deliver", "inner"),
        ("server", "udp_rcv", "inner"),
    ]
    outer = f"{network.source}:", f"->{network.destination}:"

    def name(text: str) -> str:
        if text == inner:
            return "inner"
        return "outer" if text.startswith(outer[0]) and outer[1] in text else text

    assert [(where, func, name(text)) for where, func, text in seen] == way
