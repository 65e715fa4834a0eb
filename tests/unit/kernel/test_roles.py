"""What functions mean for packets that are followed."""

from __future__ import annotations

import pytest

from pwru.kernel.functions import Target
from pwru.kernel.roles import RELATIONS, missing, role_of, with_roles


def target(name: str, skb_arg: int = 1, *, double: bool = False) -> Target:
    return Target(name, hash(name), skb_arg, 0, double, 7, None, False)


@pytest.mark.parametrize(
    ("function", "role"),
    [
        (target("skb_release_head_state"), "ROLE_END"),
        (target("__copy_skb_header"), "ROLE_COPY"),
        (target("__copy_skb_header.constprop.0"), "ROLE_COPY"),  # a suffix of the compiler
        (target("__tcp_transmit_skb", 2), "ROLE_TRANSMIT"),
        (target("inet_frag_reasm_finish", 2), "ROLE_REASSEMBLE"),
        (target("__tcp_transmit_skb", 1), ""),  # other arguments than we know
        (target("__copy_skb_header", 2), ""),
        (target("skb_release_head_state", double=True), ""),
        (target("sock_wfree"), "ROLE_AFTER_END"),
        (target("ip_rcv"), ""),
    ],
)
def test_roles(function: Target, role: str) -> None:
    assert role_of(function) == role


def test_functions_that_nobody_asked_for_are_silent() -> None:
    chosen = [target("ip_rcv"), target("kfree_skbmem")]
    everything = [*chosen, target("pskb_expand_head"), target("icmp_rcv"), target("sock_wfree")]
    given = {t.name: (t.role, t.silent) for t in with_roles(chosen, everything)}
    assert given == {
        "ip_rcv": ("", False),
        "kfree_skbmem": ("ROLE_LAST", False),
        "pskb_expand_head": ("ROLE_HEAD", True),
    }


def test_relations_that_cannot_be_seen() -> None:
    names = {name for functions in RELATIONS.values() for name in functions}
    everything = [target(name, 2 if name in ("__tcp_transmit_skb", "inet_frag_reasm_finish") else 1) for name in names]
    assert missing(with_roles(everything, ())) == []
    assert missing(with_roles([t for t in everything if t.name != "ip6_copy_metadata"], ())) == ["IP fragments"]
    assert missing(everything) == list(RELATIONS)  # without a role, nobody looks
