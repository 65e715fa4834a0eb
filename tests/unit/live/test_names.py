"""Names of what was hit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pwru.kernel.btf import Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.live.backends import Probes, Sites
from pwru.live.names import Symbolizer
from pwru.record.event import Function, Where
from tests.unit.kernel.samples import KALLSYMS

IP_RCV = 0xFFFFFFFF9FE3E110


@pytest.mark.parametrize("by_address", [{}, {1: Target("f", 1, 1, 0, False, 7, None, False)}])
@pytest.mark.parametrize(
    ("addr", "name"), [(IP_RCV, "ip_rcv+0x0"), (0xFFFFFFFFFFFFFFFF, "0xffffffffffffffff"), (0, "")]
)
def test_an_address_where_no_probe_is(by_address: dict[int, Target], addr: int, name: str) -> None:
    """It is printed as what it is: nothing ends because of it."""
    tracepoints = [Tracepoint("kfree_skb", 0, None, None)]
    kallsyms = Kallsyms.read(str(KALLSYMS))
    sites = SimpleNamespace(tracepoints=tracepoints, drop_reasons={}, kallsyms=kallsyms, forget_symbols=lambda: None)
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
    target = Target(name, 1, 1, 0, False, 7, None, False)._replace(reason_arg=2 * has_reason)
    reasons = {0: "SKB_NOT_DROPPED_YET", 1: "SKB_CONSUMED", 6: "NETFILTER_DROP"}
    sites = SimpleNamespace(tracepoints=[], drop_reasons=reasons)
    symbolizer = Symbolizer(cast(Probes, SimpleNamespace(sites=sites, by_address={1: target})))
    assert symbolizer.function(Where(1, reason, 0)) == Function(printed, "", drops)


class SitesOf(Sites):
    """With these symbols, which are read again when they are forgotten."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.drop_reasons = {}
        self.tracepoints = [Tracepoint("kfree_skb", 0, None, 1)]

    @property
    def kallsyms(self) -> Kallsyms:
        found: Kallsyms = vars(self).setdefault("kallsyms", Kallsyms.read(str(self.path)))
        return found


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text("ffffffff81000000 T _text\nffffffff81000100 T ip_rcv\nffffffff82000000 T _etext\n")
    return path


def places(sites: Sites) -> Symbolizer:
    return Symbolizer(cast(Probes, SimpleNamespace(sites=sites, by_address={})))


def test_a_module_that_is_loaded_later(symbols: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions are not taken for the ends of those that were there before."""
    there = {"veth": 1}
    monkeypatch.setattr("pwru.kernel.modules.loaded", lambda: dict(there))
    symbols.write_text(symbols.read_text() + "ffffffffc0000000 t veth_xmit\t[veth]\n")
    symbolizer = places(SitesOf(symbols))
    assert symbolizer.stack(0, [0xFFFFFFFFC0000011]) == ["veth_xmit+0x11[veth]"]
    symbols.write_text(symbols.read_text() + "ffffffffc0020000 t nft_do_chain\t[nf_tables]\n")
    there["nf_tables"] = 2
    assert symbolizer.function(Where(0, 0, 0xFFFFFFFFC002040E)).caller == "nft_do_chain+0x40e[nf_tables]"
    assert symbolizer.stack(0, [0xFFFFFFFFC0020011, 0xFFFFFFFFC0000011]) == [
        "nft_do_chain+0x11[nf_tables]",
        "veth_xmit+0x11[veth]",
    ]


def test_symbols_that_the_kernel_hides(symbols: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As kernel.kptr_restrict=2 does: a drop is told all the same."""
    symbols.write_text(f"{0:016x} T _text\n{0:016x} T ip_rcv\n{0:016x} T _etext\n")
    symbolizer = places(SitesOf(symbols))
    for place in (0xFFFFFFFF81000111, 0xFFFFFFFFC0000011):
        assert symbolizer.function(Where(0, 0, place)) == Function("tracepoint:kfree_skb", f"0x{place:x}", True)
    assert capsys.readouterr().err.count("Places in the kernel have no names: ") == 1
