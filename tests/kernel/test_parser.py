"""Packets whose bytes are not what they look like: TUPLE and the packet filter believe only what is there."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

import pytest

from vmtest.network import Network

from .tracing import Start, Trace
from .wireguard import LOCAL, REMOTE, wireguard

COUNT = 200
BY_CHANCE = 2  # random bytes look like a whole IP packet of the right length, once in 10 000 times
SEND = f"""
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range({COUNT}):
    s.sendto(os.urandom(5 * number), ({REMOTE!r}, 9))
"""


def events(trace: Trace) -> list[dict[str, Any]]:
    """All but what IPv6 sends by itself; its addresses have a gap, those that noise makes do not."""
    return [
        event
        for event in trace.objects()
        if not event["tuple"] or event["tuple"]["proto"] != 58 or "::" not in event["tuple"]["saddr"]
    ]


def addresses(event: dict[str, Any]) -> tuple[str, str] | None:
    return (event["tuple"]["saddr"], event["tuple"]["daddr"]) if event["tuple"] else None


@pytest.mark.three_kernels
def test_what_wireguard_encrypted_is_not_ip(network: Network, pwru: Start) -> None:
    """It is where an IP header was. One in eight begins with 4 or 6, like IP."""
    flags = f"--filter-netns=/run/netns/{network.client}", "--output-json", "--output-tuple"
    outer, inner = (network.source, network.destination), (LOCAL, REMOTE)
    real = {way for ends in (outer, inner) for way in (ends, ends[::-1])}
    with wireguard(network), ExitStack() as stack:
        funcs = "--filter-func=skb_scrub_packet|__ip_local_out|iptunnel_xmit"
        everything = stack.enter_context(pwru(*flags, funcs))
        either, neither = (
            stack.enter_context(pwru(*flags, "--filter-func=skb_scrub_packet", text))
            for text in ("ip or ip6", "not ip and not ip6")
        )
        network.python(network.client, SEND)
        everything.wait_for(lambda: everything.out.count("__ip_local_out") >= 2 * COUNT)
        for trace in (everything, either, neither):
            assert trace.stop() == 0
    seen: dict[str, list[tuple[str, str] | None]] = {}
    for event in events(everything):
        seen.setdefault(event["func"], []).append(addresses(event))
    # WireGuard calls it when it has encrypted a packet, and veth when it sends the packet that carries it.
    assert sum(ends not in {None} | real for ends in seen["skb_scrub_packet"]) <= BY_CHANCE
    assert seen["skb_scrub_packet"].count(None) >= COUNT - BY_CHANCE
    assert sum(ends is not None for ends in seen["iptunnel_xmit"]) <= BY_CHANCE
    # Its length is written later than this.
    assert set(seen["__ip_local_out"]) >= {inner, outer}
    assert set(seen["__ip_local_out"]) <= real
    matched = [addresses(event) for event in events(either)]
    assert outer in matched
    assert sum(ends not in real for ends in matched) <= BY_CHANCE
    assert {addresses(event) for event in events(neither)} == {None}
    assert len(events(neither)) >= COUNT - BY_CHANCE


# By the last byte of the source address. The priorities look like a version of IP.
TAGGED = {
    1: [(0x8100, 0x4064)],
    2: [(0x88A8, 0x4064), (0x8100, 0x60C8)],
    3: [(0x8100, 0x0064), (0x8100, 0x4064)],
    4: [(0x8100, 0x0064), (0x8100, 0x0065), (0x8100, 0x4566)],
}
SEND_TAGGED = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("v0", 0))
udp = struct.pack("!HHHH", 7, 8, 28, 0) + bytes(20)
for number, tags in {}.items():
    ip4 = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, 0, 0, 64, 17, 0, bytes((10, 8, 0, number)), bytes((10, 8, 0, 9)))
    ip6 = struct.pack("!IHBB", 6 << 28, 28, 17, 64) + bytes(15) + bytes((number,)) + bytes(15) + bytes((9,))
    for ethertype, ip in ((0x800, ip4), (0x86dd, ip6)):
        s.send(bytes(12) + b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", ethertype) + ip + udp)
"""


@pytest.mark.three_kernels
def test_tags_that_the_kernel_takes_out(network: Network, pwru: Start) -> None:
    """They are in the packet's bytes, and while one is taken out it is in the skb, too."""
    wanted = {
        "": {1, 2, 3, 4},
        "vlan": {1, 2, 3, 4},
        "vlan and vlan": {2, 3, 4},
        "vlan and vlan and vlan": {4},
        "vlan 100 and udp": {1},
        "vlan and vlan and ip6": {2, 3},
        "vlan and vlan 200 and udp src port 7": {2},
        "not vlan": set[int](),
        "udp or icmp": set[int](),
    }
    untag, pull = "skb_vlan_untag", "skb_pull_rcsum"
    flags = f"--filter-func={untag}|{pull}", f"--filter-netns=/run/netns/{network.server}", "--output-json"
    with ExitStack() as stack:
        traces = {text: stack.enter_context(pwru(*flags, "--output-tuple", text)) for text in wanted}
        network.python(network.client, SEND_TAGGED.format(TAGGED))
        traces[""].wait_for(lambda: traces[""].out.count(pull) >= 2 * len(TAGGED))
        for trace in traces.values():
            assert trace.stop() == 0
    for text, numbers in wanted.items():
        sources = {f"10.8.0.{number}" for number in numbers if "ip6" not in text} | {
            f"::{number}" for number in numbers
        }
        assert of_udp(traces[text], untag) == of_udp(traces[text], pull) == sources, text


def of_udp(trace: Trace, func: str) -> set[str]:
    found = [event for event in trace.objects() if event["func"] == func]
    for event in found:
        ports = event["tuple"] and (event["tuple"]["sport"], event["tuple"]["dport"])
        assert ports == (7, 8) or (ports and event["tuple"]["proto"] != 17), event
    return {event["tuple"]["saddr"] for event in found if event["tuple"]["proto"] == 17}


@pytest.mark.one_kernel
def test_ports_that_are_not_written_yet(network: Network, pwru: Start) -> None:
    """The packet has its IP header before it has its UDP header."""
    send = """
import socket
for family, address in ((socket.AF_INET, {!r}), (socket.AF_INET6, {!r})):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(("", 7777))
    for size in (0, 10, 3000):
        s.sendto(bytes(size), (address, 9999))
"""
    with pwru("--filter-func=(udp_|udp_v6_|ip_|ip6_)send_skb", "--output-json", "--output-tuple") as trace:
        network.python(network.client, send.format(network.destination, network.destination6))
        trace.wait_for(lambda: len(re.findall('"ip6?_send_skb"', trace.out)) >= 6)
        assert trace.stop() == 0
    seen = [
        (event["func"], event["tuple"]["daddr"], event["tuple"].get("sport"), event["tuple"].get("dport"))
        for event in trace.objects()
        if event["tuple"]["proto"] == 17
    ]
    first, second = ("udp_send_skb", network.destination), ("ip_send_skb", network.destination)
    third, last = ("udp_v6_send_skb", network.destination6), ("ip6_send_skb", network.destination6)
    assert seen == 3 * [(*first, None, None), (*second, 7777, 9999)] + 3 * [(*third, None, None), (*last, 7777, 9999)]
