"""Callers and stacks, on symbols written by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Symbol
from pwru.live.names import LiveNames
from pwru.record.names import Function, Hit

from .names import FakeKernel, function_names, tracepoint_names

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
    symbols = [Symbol(name, module, address - start) for start, name, module in SYMBOLS if start <= address]
    return symbols[-1] if symbols else None


@pytest.fixture
def kernel() -> FakeKernel:
    kallsyms: Any = SimpleNamespace(lookup=lookup, in_vmlinux=lambda _: True)
    return FakeKernel(lambda: kallsyms)


@pytest.fixture
def names(kernel: FakeKernel) -> LiveNames:
    return function_names(kernel, {0x4000: Target("ip_rcv", 0x4000, 1, 0, False, 7, None, False)})


def test_a_caller_has_no_offset_a_place_has(kernel: FakeKernel, names: LiveNames) -> None:
    assert names.function(Hit(0x4000, 0, 0x5010)) == Function("ip_rcv", "veth_poll[veth]")
    names = tracepoint_names(kernel)
    assert names.function(Hit(0, 0, 0x5010)) == Function("tracepoint:kfree_skb", "veth_poll+0x10[veth]", True)
    assert names.function(Hit(0, 0, 0x3004)) == Function("tracepoint:kfree_skb", "", True)


def test_the_address_after_a_function_is_in_it(names: LiveNames) -> None:
    """It is where a last call would return to."""
    assert names.place(0x5000) == "ip_rcv+0x1000"
    assert names.place(0x10) == "0x10"


@pytest.mark.parametrize(
    ("caller", "frames"),
    [
        (0x5010, [0x1004, 0x2004, 0x4005, 0x5010, 0x6010]),  # a trampoline
        (0x5010, [0x4001, 0x5010, 0x6010]),  # a kprobe
        (0, [0x1004, 0x2004, 0x3004, 0x5010, 0x6010]),  # a tracepoint
        (0, [0x5010, 0x6010]),
    ],
)
def test_stacks_begin_at_the_caller(names: LiveNames, caller: int, frames: list[int]) -> None:
    assert names.stack(caller, frames) == ["veth_poll+0x10[veth]", "kthread+0x10"]


def test_no_stack(names: LiveNames) -> None:
    assert names.stack(0, ()) == []
