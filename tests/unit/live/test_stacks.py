"""Callers and stacks, on symbols written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pwru.kernel.kallsyms import Symbol
from pwru.live.names import Symbolizer
from pwru.record.event import Function, Where

SYMBOLS = (
    (0x1000, "bpf_prog_1_on_tracepoint", "bpf"),
    (0x2000, "bpf_trace_run3", None),
    (0x3000, "__traceiter_kfree_skb", None),
    (0x4000, "ip_rcv", None),
    (0x5000, "veth_poll", "veth"),
    (0x6000, "kthread", None),
    (0x7000, "bpf_prog_2_of_someone", "bpf"),
)


def lookup(address: int) -> Symbol | None:
    found = [Symbol(name, module, address - start) for start, name, module in SYMBOLS if start <= address]
    return found[-1] if found else None


@pytest.fixture
def symbolizer() -> Symbolizer:
    target = SimpleNamespace(name="ip_rcv", module=None, has_reason=False)
    sites = SimpleNamespace(
        kallsyms=SimpleNamespace(lookup=lookup, in_vmlinux=lambda _: True),
        tracepoints=[SimpleNamespace(name="kfree_skb", reason_arg=None)],
        drop_reasons={},
    )
    probes: Any = SimpleNamespace(sites=sites, by_address={0x4000: target})
    return Symbolizer(probes)


def test_a_caller_has_no_offset_a_place_has(symbolizer: Symbolizer) -> None:
    assert symbolizer.function(Where(0x4000, 0, 0x5010)) == Function("ip_rcv", "veth_poll[veth]")
    symbolizer._by_address.clear()
    assert symbolizer.function(Where(0, 0, 0x5010)) == Function("tracepoint:kfree_skb", "veth_poll+0x10[veth]", True)
    assert symbolizer.function(Where(0, 0, 0x3004)) == Function("tracepoint:kfree_skb", "", True)


def test_the_address_behind_a_function_is_in_it(symbolizer: Symbolizer) -> None:
    """It is where a last call would return to."""
    assert symbolizer.place(0x5000) == "ip_rcv+0x1000"
    assert symbolizer.place(0x10) == "0x10"


@pytest.mark.parametrize(
    ("caller", "frames"),
    [
        (0x5010, [0x1004, 0x2004, 0x4005, 0x5010, 0x6010]),  # a trampoline
        (0x5010, [0x4001, 0x5010, 0x6010]),  # a kprobe
        (0, [0x1004, 0x2004, 0x3004, 0x5010, 0x6010]),  # a tracepoint
        (0, [0x5010, 0x6010]),
    ],
)
def test_stacks_begin_at_the_caller(symbolizer: Symbolizer, caller: int, frames: list[int]) -> None:
    assert symbolizer.stack(caller, frames) == ["veth_poll+0x10[veth]", "kthread+0x10"]


def test_no_stack(symbolizer: Symbolizer) -> None:
    assert symbolizer.stack(0, ()) == []
