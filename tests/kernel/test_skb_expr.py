"""--filter-skb-expr: every backend shows only matching packets, and the code is right on this kernel.

The latter is tests/unit/filter/conditions.py; kernels differ in verifier and JIT.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.filter.conditions import Conditions
from vmtest.network import Network, sh

from .backends import each_backend, few_functions
from .packets import connect, netns_inode
from .tracing import Start, fails

pytestmark = pytest.mark.two_kernels


class TestConditions(Conditions):
    pass


@each_backend
def test_length(network: Network, pwru: Start, backend: str) -> None:
    with pwru(*few_functions(backend), "--filter-skb-expr", "skb->len > 500 && skb->len < 700", "icmp") as trace:
        for size in (56, 600, 1000):
            network.ping("-s", str(size))
        trace.wait_for(lambda: trace.out.count("(icmp)") >= 4)
        assert trace.stop() == 0
    rows = trace.rows()
    assert all(500 < int(row["len"]) < 700 for row in rows)
    assert {row["tuple"] for row in rows} == {"10.9.0.1:0->10.9.0.2:0(icmp)", "10.9.0.2:0->10.9.0.1:0(icmp)"}
    assert trace.totals() == (len(rows), 0)


@each_backend
def test_mark(network: Network, pwru: Start, backend: str) -> None:
    """The kernel clears the mark when the packet leaves the namespace."""
    with pwru(*few_functions(backend), "--filter-skb-expr", "skb->mark & 0xff == 0x34") as trace:
        for mark in (0x1233, 0x1234, 0x1235):
            network.ping("-m", str(mark))
        trace.wait_for_func(r" (__ip_local_out|tracepoint:net_dev_queue)\n")
        assert trace.stop() == 0
    assert {(row["mark"], row["netns"]) for row in trace.rows()} == {("1234", str(netns_inode(network.client)))}


@each_backend
def test_through_pointers(network: Network, pwru: Start, backend: str) -> None:
    """The device's name; a packet without a device does not match."""
    with pwru(
        *few_functions(backend), "--filter-skb-expr", "skb->dev->name[0] == 0x76 && skb->dev->name[1] == 0x31"
    ) as trace:
        network.ping()
        trace.wait_for_func(r" (ip_rcv|tracepoint:netif_receive_skb)\n")
        assert trace.stop() == 0
    assert {row["iface"] for row in trace.rows()} == {"v1:2"}


@each_backend
def test_constants_and_a_pcap_filter(network: Network, firewall: int, pwru: Start, backend: str) -> None:
    """Only the refused one of two connections matches; its RST does not, until its socket is looked up."""
    refused = firewall + 1
    expression = "skb->sk->__sk_common.skc_state == TCP_SYN_SENT"
    with pwru(*few_functions(backend), "--filter-skb-expr", expression, f"tcp port {refused}") as trace:
        for port in (firewall, refused):
            connect(network, network.destination, port)
        trace.wait_for_func(r" (__ip_local_out|tracepoint:net_dev_queue)\n")
        assert trace.stop() == 0
    syn = f"->{network.destination}:{refused}(tcp)"
    client = str(netns_inode(network.client))
    assert all(row["tuple"].endswith(syn) or row["netns"] == client for row in trace.rows())
    assert not any(f"{firewall}(tcp)" in row["tuple"] for row in trace.rows())


AGAIN = [
    "skb->mark == 0x1234 && skb->len > 100",
    "skb->protocol == 8 && skb->dev->ifindex == 2 && skb->dev->mtu < 1501",
    "skb->pkt_type == 0 && skb->skb_iif < 1",
    "skb->skb_iif > 0 && !(skb->mark & 0xff)",
]


def test_in_a_recording(network: Network, pwru: Start, tmp_path: Path) -> None:
    """The same events as in a live trace."""
    recording = str(tmp_path / "x.pwru")
    few = "--filter-func=dev_hard_start_xmit|ip_rcv|icmp_rcv", "--follow=false"  # where every skb has a device
    recorded = "-w", recording, "--output-skb-metadata=skb->pkt_type,skb->skb_iif"
    with ExitStack() as stack:
        traces = {text: stack.enter_context(pwru(*few, "--filter-skb-expr", text, "icmp")) for text in AGAIN}
        everything = stack.enter_context(pwru(*few, *recorded, "icmp"))
        for options in (("-m", str(0x1234)), ("-s", "600", "-m", str(0x1234)), ()):
            network.ping(*options)
        for trace in (*traces.values(), everything):
            assert trace.stop() == 0
    events = {text: trace.out.splitlines() for text, trace in traces.items()}
    assert all(len(lines) > 1 for lines in events.values())
    assert {
        text: sh("pwru", "-r", recording, "--filter-skb-expr", text).stdout.splitlines() for text in AGAIN
    } == events


def test_a_wrong_expression_is_told_first() -> None:
    line = fails("--filter-skb-expr", "skb->mrak", "--filter-func", "no_such_function", "tcp")
    assert line == "pwru: --filter-skb-expr: column 6: struct sk_buff has no member 'mrak'; did you mean mark?"
