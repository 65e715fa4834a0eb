"""Stages of a packet's way: of which stage a function is, and how long an skb stays in each."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pwru.record.follow import Packet, Skb
from pwru.record.names import Function
from pwru.record.packets import Step
from pwru.record.schema import Record
from pwru.record.stages import DROPPED, STAGES, passages, stage_of

SKB = Skb(Packet(1, 1), 0)


def folded(*functions: str | Function) -> list[tuple[str, str, int, int]]:
    """Return each stage with its detail, its time, and its number of steps; a step takes a nanosecond."""
    steps = [
        Step(Record(1, b"", b"", b"", b"", time, b""), SKB, f if isinstance(f, Function) else Function(f, ""))
        for time, f in enumerate(functions)
    ]
    found = passages(steps)
    assert [step for passage in found for step in passage.steps] == steps
    return [(stage, detail, ns, len(those)) for stage, detail, ns, those in found]


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        ("ip_output", "IP out"),
        ("__ip_local_out", "IP out"),
        ("__netif_receive_skb_core.constprop.0", "receive"),
        ("vxlan_xmit_one[vxlan]", "tunnel"),
        ("sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)", "released"),
        ("kfree_skb_reason (77)", "released"),
        ("from_container(tc)", "BPF program"),
        ("tracepoint:netif_rx_entry", "softirq queue"),
        ("neigh_resolve_output", "neighbour"),  # although it ends like a function of "IP out"
        ("br_nf_pre_routing", "netfilter"),
        ("br_handle_frame", "bridge"),
        ("skb_push", ""),
        ("apparmor_socket_sock_rcv_skb", ""),
        ("apparmor_ip_postroute", "netfilter"),
        ("nobody_knows_it", None),
    ],
)
def test_the_stage_of_a_function(function: str, stage: str | None) -> None:
    assert stage_of(function) == stage
    assert not stage or stage in STAGES


def test_a_way() -> None:
    """What is internal belongs to the stage before; who reads a packet also releases it."""
    assert folded(
        "udp_send_skb", "ip_send_skb", "ip_output", "nf_hook_slow", "apparmor_ip_postroute", "ip_finish_output2",
        "neigh_resolve_output", "eth_header", "skb_push", "__dev_queue_xmit", "dev_hard_start_xmit", "veth_xmit",
        "skb_scrub_packet", "__netif_rx", "__netif_receive_skb", "ip_rcv", "ip_local_deliver", "nf_hook_slow",
        "ip_protocol_deliver_rcu", "udp_rcv", "__udp_enqueue_schedule_skb", "skb_consume_udp", "skb_release_data",
        "kfree_skbmem",
    ) == [
        ("UDP send", "", 1, 1), ("IP out", "", 2, 2), ("netfilter", "POSTROUTING", 2, 2), ("IP out", "", 1, 1),
        ("neighbour", "", 3, 3), ("qdisc", "", 1, 1), ("driver", "", 1, 1), ("veth", "", 2, 2),
        ("softirq queue", "", 1, 1), ("receive", "", 1, 1), ("IP in", "", 2, 2), ("netfilter", "INPUT", 1, 1),
        ("IP in", "", 1, 1), ("UDP receive", "", 1, 1), ("socket queue", "", 1, 1), ("delivered", "", 2, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "hook"),
    [
        ("__ip_local_out", "OUTPUT"), ("ip6_xmit", "OUTPUT"), ("ip6_output", "POSTROUTING"), ("ip_rcv", "PREROUTING"),
        ("ip6_rcv_core", "PREROUTING"), ("ip6_input", "INPUT"), ("ip_forward", "FORWARD"),
        ("br_handle_frame", "BRIDGE"), ("udp_rcv", ""),
    ],
)  # fmt: skip
def test_hooks_of_netfilter(before: str, hook: str) -> None:
    *_, (stage, detail, _, count) = folded(before, "skb_push", "nf_hook_slow", "nft_do_chain", "tcp_new", "skb_push")
    assert (stage, detail, count) == ("netfilter", hook, 4)


def test_a_drop() -> None:
    drop = Function("sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)", "", drops=True)
    shot = Function("prog(tc)", "", drops=True, verdict="TC_ACT_SHOT")
    assert folded("udp_rcv", drop, "skb_release_head_state", "kfree_skbmem")[1:] == [(DROPPED, "NO_SOCKET", 2, 3)]
    assert folded("prog(tc)", shot) == [("BPF program", "tc", 1, 1), (DROPPED, "TC_ACT_SHOT", 0, 1)]


def test_what_comes_before_the_first_stage() -> None:
    """It belongs to that; only if there is none, it is other."""
    assert folded("skb_push", "unheard_of", "ip_rcv", "unheard_of") == [("IP in", "", 3, 4)]
    assert folded("skb_push", "unheard_of") == [("other", "", 1, 2)]
    assert folded() == []


def test_an_error_of_icmp_looks_for_its_route() -> None:
    way = folded("udp_rcv", "__icmp_send", "ip_route_input_noref", "fib_validate_source", "kfree_skb")
    assert [stage for stage, *_ in way] == ["UDP receive", "ICMP error", "released"]


def test_times_that_go_back() -> None:
    """Clocks of CPUs differ by a little."""
    steps = [
        Step(Record(1, b"", b"", b"", b"", t, b""), SKB, Function(f, "")) for t, f in ((9, "ip_rcv"), (7, "udp_rcv"))
    ]
    assert [passage.ns for passage in passages(steps)] == [0, 0]


def test_stages_are_told_apart() -> None:
    assert len(STAGES) == len(set(STAGES))
    assert all(one != other for one, other in pairwise(stage for stage, *_ in folded("ip_rcv", "ip_rcv", "udp_rcv")))
