"""Names of what was hit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pwru.kernel.bpf_programs import KINDS
from pwru.kernel.btf import Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.live.names import LiveNames, SeenProgram
from pwru.record.names import Function, Hit

from .names import FakeKernel, function_names, ignore, tracepoint_names

SAMPLE = Path(__file__).parents[1] / "kernel/data/kallsyms"
IP_RCV = 0xFFFFFFFF9FE3E110
TARGET = Target("f", 1, 1, 0, False, 7, None, False)


@pytest.mark.parametrize("by_address", [{}, {1: TARGET}])
@pytest.mark.parametrize(
    ("addr", "name"), [(IP_RCV, "ip_rcv+0x0"), (0xFFFFFFFFFFFFFFFF, "0xffffffffffffffff"), (0, "")]
)
def test_an_address_where_no_probe_is(by_address: dict[int, Target], addr: int, name: str) -> None:
    """It is printed as what it is: nothing ends because of it."""
    kernel = FakeKernel(lambda: Kallsyms.read(str(SAMPLE)))
    names: LiveNames = function_names(kernel, by_address) if by_address else tracepoint_names(kernel)
    expected = name or ("0x0" if by_address else "tracepoint:kfree_skb")
    assert names.function(Hit(addr, 0, 0)) == Function(expected, "", "kfree_skb" in expected)


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
    target = TARGET._replace(name=name, reason_arg=2 * has_reason)
    reasons = {0: "SKB_NOT_DROPPED_YET", 1: "SKB_CONSUMED", 6: "NETFILTER_DROP"}
    names = function_names(FakeKernel(lambda: Kallsyms.read(str(SAMPLE)), reasons), {1: target})
    assert names.function(Hit(1, reason, 0)) == Function(printed, "", drops)


@pytest.mark.parametrize(
    ("tracepoint", "reason", "printed", "drops"),
    [
        (Tracepoint("kfree_skb", 0, None, None), 0, "kfree_skb", True),
        (Tracepoint("kfree_skb", 0, 2, 1, reason_enum="skb_drop_reason"), 6, "kfree_skb(NETFILTER_DROP)", True),
        (Tracepoint("qdisc_drop", 3, 4, None, reason_enum="qdisc_drop_reason"), 7, "qdisc_drop (7)", True),
        (
            Tracepoint("tcp_send_reset", 1, 2, None, reason_enum="sk_rst_reason"),
            1,
            "tcp_send_reset(SK_RST_REASON_NO_SOCKET)",
            False,
        ),
        (Tracepoint("tcp_send_reset", 1, 2, None, reason_enum="sk_rst_reason"), 6, "tcp_send_reset (6)", False),
    ],
)
def test_reasons_of_tracepoints(tracepoint: Tracepoint, reason: int, printed: str, drops: bool) -> None:
    """Each has its own enum: 6 is no reason to send a reset."""
    kernel = FakeKernel(lambda: Kallsyms.read(str(SAMPLE)), {6: "NETFILTER_DROP"})
    names = tracepoint_names(kernel, [tracepoint])
    assert names.function(Hit(0, reason, 0)) == Function(f"tracepoint:{printed}", "", drops)


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text("ffffffff81000000 T _text\nffffffff81000100 T ip_rcv\nffffffff82000000 T _etext\n")
    return path


def names_of(symbols: Path, on_message: Callable[[str], None] = ignore) -> LiveNames:
    kernel = FakeKernel(lambda: Kallsyms.read(str(symbols)))
    return tracepoint_names(kernel, [Tracepoint("kfree_skb", 0, None, 1)], on_message)


def test_a_module_that_is_loaded_later(symbols: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions are not taken for the ends of functions that were known before, and the names are a new
    generation."""
    loaded = {"veth": 1}
    monkeypatch.setattr("pwru.kernel.modules.loaded", lambda: dict(loaded))
    symbols.write_text(symbols.read_text() + "ffffffffc0000000 t veth_xmit\t[veth]\n")
    names = names_of(symbols)
    assert names.stack(0, [0xFFFFFFFFC0000011]) == ["veth_xmit+0x11[veth]"]
    symbols.write_text(symbols.read_text() + "ffffffffc0020000 t nft_do_chain\t[nf_tables]\n")
    loaded["nf_tables"] = 2
    before = names.generation
    assert names.function(Hit(0, 0, 0xFFFFFFFFC002040E)).caller == "nft_do_chain+0x40e[nf_tables]"
    assert names.stack(0, [0xFFFFFFFFC0020011, 0xFFFFFFFFC0000011]) == [
        "nft_do_chain+0x11[nf_tables]",
        "veth_xmit+0x11[veth]",
    ]
    assert names.generation > before


def test_the_place_of_one_that_has_gone(symbols: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its name until something else is there."""
    loaded = {"veth": 1}
    monkeypatch.setattr("pwru.kernel.modules.loaded", lambda: dict(loaded))
    text = symbols.read_text()
    symbols.write_text(text + "ffffffffc0000000 t veth_xmit\t[veth]\nffffffffc0010000 t gre_rcv\t[gre]\n")
    names = names_of(symbols)
    frames = [0xFFFFFFFFC0000011, 0xFFFFFFFFC0010011]
    assert names.stack(0, frames) == ["veth_xmit+0x11[veth]", "gre_rcv+0x11[gre]"]
    symbols.write_text(text + "ffffffffc0010000 t other\t[dummy]\n")
    loaded.clear()
    loaded["dummy"] = 2
    assert names.place(0xFFFFFFFFC0000020) == "veth_xmit+0x20[veth]"
    assert names.stack(0, frames) == ["veth_xmit+0x11[veth]", "other+0x11[dummy]"]


def test_symbols_that_the_kernel_hides(symbols: Path) -> None:
    """With kernel.kptr_restrict=2, drops are still reported."""
    symbols.write_text(f"{0:016x} T _text\n{0:016x} T ip_rcv\n{0:016x} T _etext\n")
    messages: list[str] = []
    names = names_of(symbols, messages.append)
    for place in (0xFFFFFFFF81000111, 0xFFFFFFFFC0000011):
        assert names.function(Hit(0, 0, place)) == Function("tracepoint:kfree_skb", f"0x{place:x}", True)
    (message,) = messages
    assert message.startswith("Kernel symbols are unavailable: ")


@pytest.mark.parametrize("backend", ["kprobe", "tracepoint"])
def test_bpf_programs(backend: str) -> None:
    """By numbers that are neither addresses nor those of tracepoints."""
    kernel = FakeKernel(lambda: Kallsyms.read(str(SAMPLE)))
    names: LiveNames = function_names(kernel, {1: TARGET}) if backend == "kprobe" else tracepoint_names(kernel)
    names.programs = {7 << 32 | at_exit: SeenProgram("a_program", KINDS[3], at_exit) for at_exit in (False, True)}
    assert names.function(Hit(7 << 32, 0, 0)) == Function("a_program(tc)", "")
    assert names.function(Hit(7 << 32 | 1, 2, 0)) == Function("a_program(tc)", "", True, "TC_ACT_SHOT")
