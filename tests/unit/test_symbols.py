"""Names of what was hit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pwru.event import Function, Where
from pwru.kernel.btf import Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.probes import Probes
from pwru.symbols import Symbolizer
from tests.unit.kernel.test_kallsyms import SAMPLE

IP_RCV = 0xFFFFFFFF9FE3E110


@pytest.mark.parametrize("by_address", [{}, {1: Target("f", 1, 1, 0, False, 1, 7, None, False)}])
@pytest.mark.parametrize(
    ("addr", "name"), [(IP_RCV, "ip_rcv+0x0"), (0xFFFFFFFFFFFFFFFF, "0xffffffffffffffff"), (0, "")]
)
def test_an_address_where_no_probe_is(by_address: dict[int, Target], addr: int, name: str) -> None:
    """It is printed as what it is: nothing ends because of it."""
    tracepoints = [Tracepoint("kfree_skb", 0, None, None)]
    sites = SimpleNamespace(tracepoints=tracepoints, drop_reasons={}, kallsyms=Kallsyms.read(str(SAMPLE)))
    symbolizer = Symbolizer(cast(Probes, SimpleNamespace(sites=sites, by_address=by_address)))
    expected = name or ("0x0" if by_address else "tracepoint:kfree_skb")
    assert symbolizer.function(Where(addr, 0, 0)) == Function(expected, "", "kfree_skb" in expected)


@pytest.mark.parametrize(
    ("name", "has_reason", "reason", "printed", "drops"),
    [
        ("kfree_skb", False, 0, "kfree_skb", True),
        ("__kfree_skb", False, 0, "__kfree_skb", False),
        ("kfree_skbmem", False, 0, "kfree_skbmem", False),
        ("sk_skb_reason_drop", True, 6, "sk_skb_reason_drop(NETFILTER_DROP)", True),
        ("sk_skb_reason_drop", True, 9, "sk_skb_reason_drop (9)", True),
        ("kfree_skb_reason", True, 1, "kfree_skb_reason(SKB_CONSUMED)", False),
        ("skb_release_data", True, 6, "skb_release_data", False),
    ],
)
def test_what_drops(name: str, has_reason: bool, reason: int, printed: str, drops: bool) -> None:
    target = Target(name, 1, 1, 0, False, 1, 7, None, False)._replace(reason_arg=2 * has_reason)
    reasons = {0: "SKB_NOT_DROPPED_YET", 1: "SKB_CONSUMED", 6: "NETFILTER_DROP"}
    sites = SimpleNamespace(tracepoints=[], drop_reasons=reasons)
    symbolizer = Symbolizer(cast(Probes, SimpleNamespace(sites=sites, by_address={1: target})))
    assert symbolizer.function(Where(1, reason, 0)) == Function(printed, "", drops)
