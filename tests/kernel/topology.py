"""Small networks of namespaces, and what is changed in them for a while."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vmtest.network import inside, sh

from .leftovers import wait_for

# left -- router -- right
LEFT, ROUTER_LEFT, ROUTER_RIGHT, RIGHT = "10.11.0.1", "10.11.0.2", "10.12.0.1", "10.12.0.2"
SERVICE, PORT, CLIENT_PORT = 5000, 9999, 4000
# What is sent to the router at SERVICE goes to PORT on the right, and comes from the router then.
NAT = f"""
    chain prerouting {{
        type nat hook prerouting priority -100
        udp dport {SERVICE} dnat to {RIGHT}:{PORT}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100
        oifname "r1" masquerade
    }}
"""


def run(netns: str, *command: str, text: str | None = None) -> str:
    return sh("ip", "netns", "exec", netns, *command, text=text).stdout


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Without IPv6, which would send for its own ends."""
    with ExitStack() as made:
        for name in names:
            sh("ip", "netns", "add", name)
            made.callback(sh, "ip", "netns", "delete", name)
            run(name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
            sh("ip", "-n", name, "link", "set", "lo", "up")
        yield


def join(*ends: tuple[str, str, str]) -> None:
    """Join two namespaces by veth; each end is a namespace, a device and an address, or "" for none."""
    (first, device, _), (second, peer, _) = ends
    sh("ip", "-n", first, "link", "add", device, "type", "veth", "peer", "name", peer, "netns", second)
    for netns, name, address in ends:
        if address:
            sh("ip", "-n", netns, "address", "add", f"{address}/24", "dev", name)
        sh("ip", "-n", netns, "link", "set", name, "up")


@contextmanager
def router() -> Iterator[None]:
    """Two hosts, left and right, and a router between them; neighbours are known."""
    with namespaces("left", "router", "right"):
        join(("left", "l0", LEFT), ("router", "r0", ROUTER_LEFT))
        join(("router", "r1", ROUTER_RIGHT), ("right", "x0", RIGHT))
        run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        sh("ip", "-n", "left", "route", "add", "default", "via", ROUTER_LEFT)
        sh("ip", "-n", "right", "route", "add", "default", "via", ROUTER_RIGHT)
        run("left", "ping", "-n", "-c1", "-w30", RIGHT)
        yield


@contextmanager
def bridge() -> Iterator[None]:
    """A sender's device s0 and three devices p1, p2 and p3 of another namespace, at the ports of one bridge."""
    with namespaces("sender", "switch", "ports"):
        sh("ip", "-n", "switch", "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", "switch", "link", "set", "br0", "up")
        for number, (netns, device) in enumerate((("sender", "s0"), ("ports", "p1"), ("ports", "p2"), ("ports", "p3"))):
            join(("switch", f"b{number}", ""), (netns, device, ""))
            sh("ip", "-n", "switch", "link", "set", f"b{number}", "master", "br0")
        wait_for(lambda: run("switch", "bridge", "link").count("state forwarding") == 4)
        yield


def rule(hook: str, text: str) -> str:
    """A chain with one rule."""
    return f"chain {hook} {{\ntype filter hook {hook} priority 0\n{text}\n}}"


@contextmanager
def nft(netns: str, rules: str) -> Iterator[None]:
    """`rules`: the chains of a table for IPv4, with a line for each rule."""
    run(netns, "nft", "-f", "-", text=f"table ip following {{\n{rules}\n}}")
    try:
        yield
    finally:
        run(netns, "nft", "delete", "table", "ip", "following")


@contextmanager
def offload(netns: str, device: str, feature: str, state: str) -> Iterator[None]:
    """Switch a feature of ethtool's, `on` or `off`."""
    before = "on" if has_on(netns, device, feature) else "off"
    run(netns, "ethtool", "-K", device, feature, state)
    try:
        yield
    finally:
        run(netns, "ethtool", "-K", device, feature, before)


LONG_NAMES = {"tso": "tcp-segmentation-offload", "gro": "generic-receive-offload"}


def has_on(netns: str, device: str, feature: str) -> bool:
    return f"{LONG_NAMES[feature]}: on" in run(netns, "ethtool", "-k", device)


def udp(netns: str, port: int = 0, family: int = socket.AF_INET) -> socket.socket:
    with inside(netns):
        bound = socket.socket(family, socket.SOCK_DGRAM)
    bound.bind(("", port))
    return bound


@contextmanager
def connection(netns: str, to: str, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection within a namespace, or from it to `to`; both ends of it."""
    client_netns, server_netns = netns.split("->")
    with inside(server_netns):
        listener = socket.create_server(("", port))
    with inside(client_netns):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, client:
        client.connect((to, port))
        with listener.accept()[0] as server:
            yield client, server


def received(end: socket.socket, size: int) -> None:
    """Read until `size` bytes have come."""
    while size > 0:
        some = len(end.recv(1 << 16))
        assert some, "the end came too soon"
        size -= some
