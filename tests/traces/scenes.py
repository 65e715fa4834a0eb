"""What the recordings of tests/traces are of: for each a kernel, what pwru is asked for, and the traffic.

They are made in guests. To change one, change it here and run `make update-traces`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from tests.conformance.traffic import CLIENT, CLOSED, DROPPED, SERVER, network, ping, syn, tcp, udp
from tests.kernel.bpf_programs import Tc, programs, xdp
from tests.kernel.topology import CLIENT_PORT, NAT, PORT, ROUTER_LEFT, SERVICE, nft, router
from tests.kernel.topology import udp as bound
from tests.kernel.tunnels import REMOTE, tunnel

Send = Callable[[], None]
IP4, IP6 = socket.AF_INET, socket.AF_INET6


def _in_turn(*sends: Send) -> Send:
    def send() -> None:
        for each in sends:
            each()

    return send


def _veth(*sends: Send) -> Callable[[], AbstractContextManager[Send]]:
    """Return the scene in which these send, one after the other, between the client and the server."""

    @contextmanager
    def scene() -> Iterator[Send]:
        with network():
            yield _in_turn(*sends)

    return scene


@contextmanager
def _vxlan() -> Iterator[Send]:
    with network() as between, tunnel(between, "vxlan"):
        yield lambda: between.ping(to=REMOTE)


def _options() -> None:
    """Send a datagram with hop-by-hop and destination options (RFC 8200)."""
    padding = bytes((0, 0, 1, 4, 0, 0, 0, 0))
    with bound(CLIENT, 7777, IP6) as client:
        for option in (socket.IPV6_HOPOPTS, socket.IPV6_DSTOPTS):
            client.setsockopt(socket.IPPROTO_IPV6, option, padding)
        client.sendto(b"options", ("fd09::2", CLOSED))


@contextmanager
def _nat() -> Iterator[Send]:
    with router(), nft("router", NAT), bound("left", CLIENT_PORT) as client, bound("right", PORT) as server:

        def send() -> None:
            client.sendto(b"request", (ROUTER_LEFT, SERVICE))
            server.sendto(b"reply", server.recvfrom(100)[1])
            client.recv(100)

        yield send


@contextmanager
def _programs() -> Iterator[Send]:
    with (
        network() as between,
        programs("xdp") as of_xdp,
        programs() as of_tc,
        Tc(between) as tc,
        xdp(between, of_xdp / "passes_every_frame_on"),
    ):
        tc.put(of_tc / "passes_every_packet_on")
        for path in (*of_xdp.iterdir(), *of_tc.iterdir()):
            if not path.is_dir():
                path.unlink()  # the others are not to be traced, which takes long
        yield lambda: ping(IP4)


@contextmanager
def _vlan() -> Iterator[Send]:
    with network() as between:
        for netns, device, address in (
            (CLIENT, between.client_device, "10.8.7.1"),
            (SERVER, between.server_device, "10.8.7.2"),
        ):
            between.ip(netns, "link", "add", "link", device, "name", "v.7", "type", "vlan", "id", "7")
            between.ip(netns, "address", "add", f"{address}/24", "dev", "v.7")
            between.ip(netns, "link", "set", "v.7", "up")
        between.ping("-w30", to="10.8.7.2")
        yield _in_turn(lambda: between.ping(to="10.8.7.2"), lambda: ping(IP4))


class Scene(NamedTuple):
    kernel: str
    arguments: tuple[str, ...]
    traffic: Callable[[], AbstractContextManager[Send]]


SOME = "--filter-func=__ip_local_out|ip_output|dev_hard_start_xmit|ip_rcv|ip_local_deliver|.*_rcv|kfree_skb.*|sk_skb_.*"
SCENES = {
    "tcp": Scene("6.12", ("tcp",), _veth(lambda: tcp(IP4), lambda: syn(IP4, DROPPED))),
    "udp-closed": Scene(
        "5.10",
        ("--filter-func=(__)?(ip|udp|udp4|icmp)_.*|.*kfree_skb.*", "udp or icmp"),
        _veth(lambda: udp(IP4, port=CLOSED)),
    ),
    "vxlan": Scene("6.12", (SOME, "icmp or udp port 4789"), _vxlan),
    "ipv6": Scene("7.2", ("udp or ip6 proto 0 or ip6 proto 60",), _veth(_options)),
    "nat": Scene("5.10", (SOME, "udp"), _nat),
    "programs": Scene(
        "7.2", ("--filter-trace-tc", "--filter-trace-xdp", "--filter-func=__dev_queue_xmit|ip_rcv", "icmp"), _programs
    ),
    "structs": Scene(
        "6.12",
        (
            *(
                "--filter-func=ip_rcv|kfree_skb.*|sk_skb_.*",
                "--output-stack",
                "--output-skb",
                "--output-skb-shared-info",
            ),
            *("--output-skb-metadata=skb->len,skb->pkt_type,skb->hash,skb->skb_iif", "--output-payload=256"),
            f"udp dst port {DROPPED}",
        ),
        _veth(lambda: udp(IP4, port=DROPPED, mark=0x1234)),
    ),
    "drops": Scene(
        "6.12",
        ("--filter-drop-reason=any", "--output-caller", f"port {DROPPED} or port {CLOSED}"),
        _veth(lambda: udp(IP4, port=CLOSED), lambda: udp(IP6, port=DROPPED), lambda: syn(IP4, DROPPED)),
    ),
    "tracepoints": Scene("7.2", ("--backend=tracepoint", "icmp"), _veth(lambda: ping(IP4))),
    "vlan": Scene("5.10", (SOME, "icmp or (vlan and icmp)"), _vlan),
    "old-structs": Scene(
        "5.10",
        ("--filter-func=ip_rcv", "--output-stack", "--output-skb", "icmp"),
        _veth(lambda: ping(IP4)),
    ),
}
