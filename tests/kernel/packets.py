"""Packets that the tests send, and the namespaces that they are sent from."""

from __future__ import annotations

import os

from vmtest.network import Network


def connect(network: Network, address: str, port: int) -> None:
    """Try to connect from the client by TCP, whatever comes of it."""
    family = "AF_INET6" if ":" in address else "AF_INET"
    code = f"import socket; s = socket.socket(socket.{family}); s.settimeout(0.2); s.connect_ex(({address!r}, {port}))"
    network.python(network.client, code)


def send_udp6(network: Network) -> None:
    """Send one datagram by IPv6, from port 7777 to port 9999, where nobody listens."""
    network.python(
        network.client,
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('', 7777))\n"
        f"s.sendto(bytes(64), ('{network.destination6}', 9999))",
    )


def netns_inode(netns: str) -> int:
    return os.stat(f"/run/netns/{netns}").st_ino
