"""Every backend of this kernel sees the same packets in the same functions, in the same order.

They trace the same pings at the same time, so that a packet has the same address in all traces.
"""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

from pwru.kernel.functions import Targets, drop_blacklisted
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from pwru.live.backends.trampoline import split_by_trampoline
from vmtest.network import Network

from .backends import BACKENDS
from .tracing import Start, Trace

pytestmark = [pytest.mark.three_kernels, pytest.mark.usefixtures("nothing_left")]

# Enough for a path from end to end, few enough for backends that attach to one function at a time.
FUNCTIONS = (
    r"ip_.*|__ip_local_out|icmp_.*|dev_hard_start_xmit|netif_rx.*|__netif_receive_skb.*|kfree_skb.*|sk_skb_reason_drop"
    r"|consume_skb|skb_release_data|raw_rcv"
)
SIZES = (100, 200, 300)


def test_backends_agree(network: Network, pwru: Start) -> None:
    names = [name for name in BACKENDS if name != "tracepoint"]
    with ExitStack() as stack:
        traces = {
            name: stack.enter_context(pwru("--debug", "--backend", name, "--filter-func", FUNCTIONS, "icmp"))
            for name in names
        }
        for size in SIZES:
            network.ping("-s", str(size))
        for trace in traces.values():
            assert trace.stop() == 0
            assert trace.totals()[1] == 0
    not_everywhere = excused(traces)
    ways = {size: {name: way(trace, size, not_everywhere) for name, trace in traces.items()} for size in SIZES}
    # Hits of an interrupt that arrives while a program runs are missed by that backend, but not by others.
    agreed = [seen[names[0]] for seen in ways.values() if all(seen[name] == seen[names[0]] for name in names)]
    assert agreed, ways
    functions = {function for packet in agreed[0].values() for function in packet}
    assert {"ip_output", "ip_rcv", "icmp_rcv", "icmp_echo"} <= functions


def excused(traces: dict[str, Trace]) -> set[str]:
    """Functions that not every backend can trace: unsuitable for trampolines, blacklisted for kprobes, or refused."""
    places = Places(Kernel(), FUNCTIONS)
    _, left_out = split_by_trampoline(places.kernel, places.functions)
    blacklisted = drop_blacklisted(Targets(places.functions, places.left_out)).skipped
    refused = re.findall(r"^debug: not attached: (\S+):", "".join(trace.err for trace in traces.values()), re.MULTILINE)
    return {name for causes in (left_out, blacklisted) for names in causes.values() for name in names} | set(refused)


def way(trace: Trace, size: int, without: set[str]) -> dict[str, list[str]]:
    """The functions of each packet of the ping of this size, by the packet's address, with drop reasons."""
    functions: dict[str, list[str]] = {}
    for row in trace.rows():
        if size <= int(row["len"]) < size + 50 and row["func"].partition("(")[0] not in without:
            functions.setdefault(row["skb"], []).append(row["func"])
    return functions
