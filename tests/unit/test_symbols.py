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
    assert symbolizer.function(Where(addr, 0, 0)) == Function(expected, "")
