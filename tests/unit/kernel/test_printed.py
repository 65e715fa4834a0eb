"""Printed names that are none of those that can be chosen from."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.kernel.printed import check_printed

NAMES = (
    "ip_rcv",
    "tcp_v4_rcv",
    "kfree_skb_reason",
    "redirect",
    "redirect.isra.0",
    "veth_xmit",
    "veth_xmit[veth]",
    "ab1",
)
TRACEPOINTS = ("kfree_skb", "tracepoint:kfree_skb")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "tcp_v4_rcv.cold",
            "tcp_v4_rcv.cold: the compiler split it off tcp_v4_rcv, .* arguments of its own; use tcp_v4",
        ),
        ("ip_rcv|inlined.part.0.isra.7", "inlined.part.0.isra.7: the compiler split it off inlined, and .* its own$"),
        ("ip_rcv.constprop.0+0x1f", "the compiler made it of ip_rcv, and .*; use ip_rcv"),
        ("redirect.isra.1", "the compiler made it of redirect"),
        ("ip_rcv|gre_rcv[ip_gre]", r"gre_rcv\[ip_gre\]: it is in the module ip_gre; `modules` ip_gre adds"),
        ("br_handle_frame+0x8d[bridge]", "it is in the module bridge"),
        ("kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)", "use kfree_skb_reason, or `drop_reasons` SKB_DROP_REASON_NO_S"),
        ("kfree_skb_reason (OPENVSWITCH/3)", "use kfree_skb_reason, or `drop_reasons` OPENVSWITCH/3"),
        ("ip_rcv|tracepoint:kfree_skb", "tracepoint:kfree_skb: this is a tracepoint; .* with `backend` tracepoint"),
    ],
)
def test_it_says_why(text: str, said: str) -> None:
    with pytest.raises(PwruError, match=f"^`functions` .*{said}"):
        check_printed(text, NAMES, lambda: ["bridge", "ip_gre", "veth"])


@pytest.mark.parametrize(
    "text",
    [
        "ip_rcv",
        "ip.rcv.isra",  # a regular expression that matches nothing is for others to refuse
        "unknown.isra.0",
        "redirect.isra.0",
        "veth_xmit[veth]",
        "veth_xmit+0x1c[veth]",
        "gre_rcv[not_loaded]",
        "veth_xmi[veth]",  # a set with a t
        "ab(1)",
        "(ip_rcv|tcp_v4_rcv)",
        "ip_(rcv",
    ],
)
def test_it_leaves_alone(text: str) -> None:
    check_printed(text, NAMES, lambda: ["bridge", "ip_gre", "veth"])


def test_tracepoints() -> None:
    check_printed("tracepoint:kfree_skb|tracepoint:nothing|kfree_skb", TRACEPOINTS, list)
    with pytest.raises(PwruError, match="use tracepoint:kfree_skb, or `drop_reasons` SKB_DROP_REASON_NO_SOCKET"):
        check_printed("tracepoint:kfree_skb(SKB_DROP_REASON_NO_SOCKET)", TRACEPOINTS, list)
