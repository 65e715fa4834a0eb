"""Where a packet is, and whose, when its own fields do not say: the socket and the route do."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from pwru.kernel.btf import tracepoints
from vmtest.network import Network, inside

from .backends import btf, drop_function, each_backend
from .leftovers import wait_for
from .packets import netns_inode
from .tracing import Start

PORT, UDP_PORT = 8081, 7777
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3  # include/uapi/linux/in.h; the latter sends with DF, whatever was learnt
RETRANSMIT = "(__)?tcp_retransmit_skb"
LOSS = f"""
table inet loss {{
    chain input {{
        type filter hook input priority 0
        tcp sport {PORT} tcp flags & syn == 0 drop
    }}
}}
"""

Flow = tuple[str, int | None, str, int | None]


def flow(event: dict[str, Any]) -> Flow:
    addresses = event["tuple"]
    return addresses["saddr"], addresses["sport"], addresses["daddr"], addresses["dport"]


@contextmanager
def unanswered(network: Network) -> Iterator[set[Flow]]:
    """Send by TCP: by IPv4, by IPv6, and by IPv4 from a socket for IPv6. The answers are lost on their way.

    So the client sends the same again and again, and the server drops what it has got already.
    """
    flows: set[Flow] = set()
    with ExitStack() as stack:
        network.run(network.client, "nft", "-f", "-", text=LOSS)
        stack.callback(network.run, network.client, "nft", "delete", "table", "inet", "loss")
        for family, to in (
            (socket.AF_INET, network.destination),
            (socket.AF_INET6, network.destination6),
            (socket.AF_INET6, f"::ffff:{network.destination}"),
        ):
            by6 = to == network.destination6
            with inside(network.server):
                listener = socket.create_server(("", PORT), family=socket.AF_INET6 if by6 else socket.AF_INET)
            with inside(network.client):
                client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            with listener:
                client.connect((to, PORT))
                stack.enter_context(listener.accept()[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no FIN at the end
            client.send(bytes(100))
            source, port = client.getsockname()[:2]
            flows.add((source.removeprefix("::ffff:"), port, to.removeprefix("::ffff:"), PORT))
        yield flows


@each_backend
def test_what_tcp_sends_again(network: Network, pwru: Start, backend: str) -> None:
    """It has no headers. The socket, of the skb or among the arguments, knows the flow, the namespace, the device."""
    functions = "tcp_retransmit_skb" if backend == "tracepoint" else RETRANSMIT
    to = f"(dst host {network.destination} or dst host {network.destination6}) and tcp dst port {PORT}"
    where = "--filter-netns", f"/run/netns/{network.client}", "--filter-ifname", network.client_device
    with pwru("--backend", backend, "--filter-func", functions, *where, "--output-json", to) as trace:
        with unanswered(network) as flows:
            trace.wait_for(lambda: {flow(event) for event in trace.objects()} >= flows)
        assert trace.stop() == 0
    events = trace.objects()
    assert {flow(event) for event in events} == flows
    client = netns_inode(network.client)
    assert {(event["tuple_from"], event["netns"], event["iface"], event["mtu"]) for event in events} == {
        ("sock", client, f"{network.client_device}:2", 1500)
    }


@pytest.mark.three_kernels
def test_filters_on_what_has_no_headers(network: Network, pwru: Start) -> None:
    """What TCP's socket knows matches, from the first packet of a connection to the RST at its end.

    Bytes that are not written yet do not match, not even if they must be 0; nor does the buffer that UDP will fill.
    """
    functions = f"{RETRANSMIT}|__tcp_transmit_skb|__ip_local_out|skb_set_owner_w"
    others = f"host 10.9.0.3 or tcp port {PORT + 1} or udp port {PORT} or (tcp port {PORT} and tcp[tcpflags] = 0)"
    expression = f"tcp dst port {PORT} or udp port {UDP_PORT}"
    with (
        pwru("--filter-func", RETRANSMIT, others) as other,
        pwru("--filter-func", functions, "--output-json", expression) as trace,
    ):
        with inside(network.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("", UDP_PORT))
            udp.connect((network.destination, PORT))
            udp.send(b"x")
        with unanswered(network) as flows:
            again = "(__)?tcp_retransmit_skb"
            trace.wait_for(lambda: {flow(e) for e in trace.objects() if re.fullmatch(again, e["func"])} >= flows)
        assert (other.stop(), trace.stop()) == (0, 0)
    assert other.rows() == []
    events = trace.objects()
    assert {event["func"] for event in events if "tuple_from" not in event} == {"__ip_local_out"}
    assert "skb_set_owner_w" not in {event["func"] for event in events}
    made = [event for event in events if event["func"] == "__tcp_transmit_skb"]
    assert {flow(event) for event in made} == flows
    sent = [flow(event) for event in events if event["func"] == "__ip_local_out"]
    assert {each for each in flows if ":" not in each[0]} <= set(sent)
    assert sent.count((network.source, UDP_PORT, network.destination, PORT)) == 1
    # The first and the last packet of each connection
    assert {made[0]["len"], made[-1]["len"]} == {0}


@pytest.mark.three_kernels
def test_what_tcp_receives(network: Network, pwru: Start) -> None:
    """TCP takes the device from what it receives: filters on the namespace and the interface still find it."""
    client, server = (f"/run/netns/{netns}" for netns in (network.client, network.server))
    functions = "--filter-func", "tcp_v4_do_rcv|tcp_v6_do_rcv|tcp_rcv_established"
    drops = "--filter-drop-reason", "any"
    # Commit ba8de796baf4 ("net: introduce sk_skb_reason_drop function"), in v6.11: before, nothing knows where it is.
    drop_has_sock = any(t.name == "kfree_skb" and t.sock_arg is not None for t in tracepoints(btf(), "sk_buff"))
    with (
        pwru(
            *functions, "--filter-netns", server, "--filter-ifname", network.server_device, f"tcp dst port {PORT}"
        ) as rcv,
        pwru(*functions, "--filter-netns", client, f"tcp dst port {PORT}") as elsewhere,
        pwru(*drops, "--filter-netns", server, f"tcp dst port {PORT}") as dropped,
    ):
        with unanswered(network):
            rcv.wait_for_func(r"tcp_v4_do_rcv\n(?s:.*) tcp_v6_do_rcv\n")
            if drop_has_sock:
                dropped.wait_for_func("TCP_OLD_DATA.*\n(?s:.*)TCP_OLD_DATA")
        assert [trace.stop() for trace in (rcv, elsewhere, dropped)] == [0] * 3
    assert elsewhere.rows() == []
    server_inode = str(netns_inode(network.server))
    rows = [*rcv.rows(), *dropped.rows()]
    assert {row["netns"] for row in rows} == {server_inode}
    # Only its index is known before a connection is made: a listening socket has no route to the peer.
    assert {row["iface"] for row in rows} <= {f"{network.server_device}:2", "2"}
    assert f"{network.server_device}:2" in {row["iface"] for row in rows}
    assert any("[fd09::1]" in row["tuple"] for row in rcv.rows())


def packet_too_big(network: Network, mtu: int) -> None:
    """The server says, by IPv4 and IPv6, that a longer packet does not get through to it."""
    source, to = network.source, network.destination
    # RFC 792, RFC 4443: the start of a packet that was sent, here of an echo reply
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1500, 1, 0, 64, 1, 0, socket.inet_aton(source), socket.inet_aton(to))
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + ip + bytes(8)
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    addresses6 = (socket.inet_pton(socket.AF_INET6, address) for address in (network.source6, network.destination6))
    message6 = struct.pack("!BBHI", 2, 0, 0, mtu) + struct.pack("!IHBB", 6 << 28, 1452, 58, 64) + b"".join(addresses6)
    with (
        inside(network.server),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw6,
    ):
        raw.sendto(message[:2] + struct.pack("!H", checksum) + message[4:], (source, 0))
        raw6.sendto(message6 + b"\x81" + bytes(7), (network.source6, 0))


@contextmanager
def routes(network: Network, *commands: str) -> Iterator[None]:
    """What `ip NETNS COMMAND` adds, for a while."""
    with ExitStack() as stack:
        for command in commands:
            netns, *arguments = command.split()
            network.ip(netns, *arguments)
            stack.callback(network.ip, netns, *("del" if word == "add" else word for word in arguments))
        yield


@pytest.mark.three_kernels
def test_the_mtu_is_that_of_the_route(network: Network, pwru: Start) -> None:
    """Of the device; of a route in a rule's table; what was learnt of the path; of the route to where it goes on."""
    client, server, dev = network.client, network.server, network.client_device
    to, to6 = network.destination, network.destination6
    functions = f"__ip_local_out|ip6_output|icmp_rcv|{drop_function()}"
    expression = f"src host {network.source} or src host {network.source6}"

    def ping() -> None:
        network.ping()
        network.ping("-6", to=to6)

    with pwru("--filter-func", functions, expression) as trace:
        ping()
        with routes(
            network,
            f"{client} route add {to} dev {dev} mtu 1400 table 77",
            f"{client} rule add to {to} lookup 77",
            f"{client} -6 route add {to6} dev {dev} mtu 1410 table 77",
            f"{client} -6 rule add to {to6} lookup 77",
        ):
            ping()
        packet_too_big(network, 1290)
        for address in (to, to6):
            wait_for(lambda: "mtu 1290" in network.run(client, "ip", "route", "get", address).stdout)  # noqa: B023
        ping()
        network.run(server, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        with (
            routes(
                network,
                f"{client} route add 10.3.0.0/24 via {to}",
                f"{server} route add 10.3.0.0/24 via {network.source} mtu 1300",
            ),
            inside(client),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
            udp.sendto(bytes(1350), ("10.3.0.1", 9))
            trace.wait_for_func(r"0x0800 1300 .*\n")
        assert trace.stop() == 0
    network.run(server, "sysctl", "-qw", "net.ipv4.ip_forward=0")
    for version in ("-4", "-6"):
        network.ip(client, version, "route", "flush", "cache")
    rows = trace.rows()

    def mtus(func: str, length: int) -> list[str]:
        return [row["mtu"] for row in rows if row["func"] == func and row["len"] == str(length)]

    assert mtus("__ip_local_out", 84) == ["1500", "1400", "1290"]
    assert mtus("ip6_output", 104) == ["1500", "1410", "1290"]
    # For this host: the route leads to lo, which the packet never passes.
    assert mtus("icmp_rcv", 64) == ["1500"] * 3
    dropped = [row for row in rows if row["mtu"] == "1300"]
    assert {row["tuple"].split("->")[1] for row in dropped} == {"10.3.0.1:9(udp)"}
    assert {row["netns"] for row in dropped} == {str(netns_inode(server))}
    assert {row["func"].partition("(")[0] for row in dropped} == {drop_function()}
    assert len(dropped) == 1
