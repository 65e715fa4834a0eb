"""Tunnels between the two namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vmtest.network import Network, sh

LOCAL, REMOTE = "10.7.0.1", "10.7.0.2"
OPTIONS = {"vxlan": ("id", "7", "dstport", "4789"), "geneve": ("id", "7")}


@contextmanager
def tunnel(network: Network, kind: str, mac: str | None = None) -> Iterator[None]:
    """Join the namespaces by devices of this kind, LOCAL in the client and REMOTE in the server; ARP is done then.

    `mac`: the address of the client's device.
    """
    ends = (
        (network.client, network.source, network.destination, LOCAL),
        (network.server, network.destination, network.source, REMOTE),
    )
    try:
        for netns, source, destination, address in ends:
            link = ("address", mac) if mac and address == LOCAL else ()
            outer = (*(() if kind == "geneve" else ("local", source)), "remote", destination)
            network.ip(netns, "link", "add", "tunnel", *link, "type", kind, *OPTIONS.get(kind, ()), *outer)
            network.ip(netns, "address", "add", f"{address}/24", "dev", "tunnel")
            network.run(netns, "sysctl", "-w", "net.ipv6.conf.tunnel.disable_ipv6=1")  # it would send for its own ends
            network.ip(netns, "link", "set", "tunnel", "up")
        network.ping("-w30", to=REMOTE)
        yield
    finally:
        for netns, *_ in ends:
            sh("ip", "-n", netns, "link", "delete", "tunnel", check=False)
