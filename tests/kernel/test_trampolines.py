"""The backends on BPF trampolines: what they attach to, what the kernel refuses, functions of modules."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.live.backends.how import Refused
from pwru.live.backends.trampoline import split_by_trampoline
from pwru.live.request import Request
from pwru.live.session import Session
from vmtest.network import Network

from .backends import BACKENDS
from .leftovers import ids
from .refusals import OBJECT
from .tracing import Start

pytestmark = [pytest.mark.three_kernels, pytest.mark.usefixtures("nothing_left")]


@pytest.mark.skipif("fentry-multi" not in BACKENDS, reason="this kernel has no fentry-multi links")
def test_what_is_left_out_is_what_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given all functions, the kernel refuses exactly these. It does not say which, so pwru finds them by bisection."""
    kernel = Kernel()
    targets = Places(kernel).functions
    suitable, left_out = split_by_trampoline(kernel, targets)
    expected = {name for names in left_out.values() for name in names}
    assert len(expected) > 10
    # Of two functions with the same id and name, the kernel attaches to whichever it finds first.
    everything = [target for target in targets if not target.ambiguous]
    monkeypatch.setattr("pwru.live.backends.fentry_multi.split_by_trampoline", lambda *_: (everything, {}))
    with Session(Request(backend="fentry-multi"), image=OBJECT.read_bytes()) as session:
        refused = {name for name, _ in session.backend.skipped}
        attached = session.backend.attached
    assert refused == expected - {t.name for t in targets if t.ambiguous}
    assert attached == len(suitable)


@pytest.mark.differs
def test_a_double_pointer(network: Network, pwru: Start) -> None:
    """The verifier does not support such arguments of fentry programs."""
    function = "__netif_receive_skb_core"
    try:
        kernel = Kernel()
        split_by_trampoline(kernel, Places(kernel, function).functions)
    except (PwruError, Refused):
        pytest.skip("the compiler gave the one on the way of a ping another name")
    with pwru("--backend", "fentry", "--filter-func", function, "icmp") as trace:
        network.ping()
        assert trace.stop() == 0
    assert [row["tuple"] for row in trace.rows()] == ["10.9.0.1:0->10.9.0.2:0(icmp)", "10.9.0.2:0->10.9.0.1:0(icmp)"]


def test_the_prompt_is_back_before_the_trampolines_are_gone(network: Network, pwru: Start) -> None:
    """Removing them is slow. Meanwhile the programs do nothing, and the output has ended."""
    with pwru("--backend", "fentry", "--filter-func", "ip_.*", "icmp") as trace:
        many = len(ids("link"))
        assert many > 40
        network.ping()
        trace.wait_for_func("ip_rcv")
        assert trace.stop() == 0
        left = len(ids("link"))
    assert left > many / 2, "closed one by one before the end"
    assert trace.totals() == (len(trace.rows()), 0)
