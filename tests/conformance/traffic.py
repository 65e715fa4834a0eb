"""The traffic that both tools trace: packets of many kinds between two namespaces joined by a veth pair.

One process sends and receives all of it and lives to the end, since the Go tool looks a process up when it prints.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmtest.network import Network, inside

NETWORK = Network()
CLIENT, SERVER = NETWORK.client, NETWORK.server
ADDRESSES = {
    CLIENT: (NETWORK.source, NETWORK.source6),
    SERVER: (NETWORK.destination, NETWORK.destination6),
}
FAMILIES = (socket.AF_INET, socket.AF_INET6)
# Without what the kernel sends by itself: ARP, neighbour discovery by link-local addresses, …
PCAP_FILTER = "ip net 10.9.0.0/24 or ip6 net fd09::/64"
PORT, CLOSED, DROPPED = 9999, 9998, 8080
UDP_SEGMENT = 103
SECONDS = 5.0
# What goes to DROPPED is dropped.
RULES = f"""
table inet test {{
    chain input {{
        type filter hook input priority 0
        tcp dport {DROPPED} drop
        udp dport {DROPPED} drop
    }}
}}
"""


@contextmanager
def network() -> Iterator[Network]:
    """Make the namespaces, with a firewall in the server's that drops what goes to DROPPED."""
    with NETWORK:
        NETWORK.run(SERVER, "nft", "-f", "-", text=RULES)
        yield NETWORK


@contextmanager
def opened(netns: str, family: socket.AddressFamily, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
    """Open a socket in a namespace."""
    with inside(netns):
        made = socket.socket(family, kind, protocol)
    with made:
        made.settimeout(SECONDS)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield made


def address(netns: str, family: socket.AddressFamily, port: int) -> tuple[str, int]:
    return ADDRESSES[netns][FAMILIES.index(family)], port


def udp(family: socket.AddressFamily, size: int = 64, port: int = PORT, **options: int) -> None:
    """Send a datagram; it is received if it goes to PORT. `mark` and `segment` are socket options."""
    with opened(SERVER, family, socket.SOCK_DGRAM) as receiver, opened(CLIENT, family, socket.SOCK_DGRAM) as sender:
        receiver.bind(address(SERVER, family, PORT))
        sender.bind(address(CLIENT, family, 7777))
        if mark := options.get("mark"):
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if segment := options.get("segment"):
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
        sender.sendto(bytes(size), address(SERVER, family, port))
        expected = size if port == PORT else 0
        while expected:
            expected -= len(receiver.recv(1 << 16))


def tcp(family: socket.AddressFamily, size: int = 100) -> None:
    """Make a connection, from the first packet to the last."""
    with opened(SERVER, family, socket.SOCK_STREAM) as server, opened(CLIENT, family, socket.SOCK_STREAM) as client:
        server.bind(address(SERVER, family, PORT))
        server.listen()
        client.connect(address(SERVER, family, PORT))
        other, _ = server.accept()
        with other:
            client.sendall(bytes(size))
            client.shutdown(socket.SHUT_WR)
            while other.recv(1 << 16):
                pass
        client.recv(1)


def syn(family: socket.AddressFamily, port: int) -> None:
    """Try to connect to a port that answers with a reset or not at all."""
    with opened(CLIENT, family, socket.SOCK_STREAM) as client:
        client.settimeout(0.2)
        client.connect_ex(address(SERVER, family, port))


def ping(family: socket.AddressFamily) -> None:
    protocol, request = (socket.IPPROTO_ICMP, 8) if family == socket.AF_INET else (socket.IPPROTO_ICMPV6, 128)
    echo = struct.pack("!BBHHH", request, 0, 0, 1, 1)
    if family == socket.AF_INET:
        echo = echo[:2] + struct.pack("!H", 0xFFFF - sum(struct.unpack("!4H", echo))) + echo[4:]
    with opened(CLIENT, family, socket.SOCK_RAW, protocol) as client:
        client.sendto(echo, address(SERVER, family, 0))
        client.recv(1 << 16)


def _each(send: Callable[..., None], *arguments: int, **options: int) -> Callable[[], None]:
    def both() -> None:
        for family in FAMILIES:
            send(family, *arguments, **options)

    return both


TRAFFIC: dict[str, Callable[[], None]] = {
    "UDP": _each(udp),
    "UDP with a mark": _each(udp, mark=0x1234),
    "UDP to a closed port": _each(udp, port=CLOSED),
    "UDP that nftables drops": _each(udp, port=DROPPED),
    "UDP in fragments": _each(udp, 4000),
    "UDP with GSO": _each(udp, 5000, segment=1000),
    "TCP": _each(tcp),
    "TCP with GSO": _each(tcp, 60000),
    "TCP to a closed port": _each(syn, CLOSED),
    "TCP that nftables drops": _each(syn, DROPPED),
    "ICMP": _each(ping),
}


def send_all() -> None:
    for send in TRAFFIC.values():
        send()
