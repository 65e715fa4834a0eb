"""The packet filter in this kernel says what libpcap says: tests/unit/filter/test_verdicts.py with fewer pairs.

The kernel's verifier and JIT are what differs; where there is no bpf_rdonly_cast(), the other strategy is tested alone.
Then the flags that stand for a part of the filter, with real packets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.unit.filter import harness
from tests.unit.filter.test_verdicts import (  # noqa: F401  (fixtures and tests, collected here too)
    cast,
    image,
    seed,
    test_expressions,
    test_long_filter,
    test_memory_is_zero_at_first,
    test_programs,
)

from .conftest import Network, Trace, connect, send_udp


@pytest.fixture(scope="module")
def pairs() -> int:
    return int(os.environ.get("PWRU_FILTER_PAIRS", "6000"))


def test_nothing_is_skipped_for_the_harness() -> None:
    assert harness.OBJECT.exists(), "make -C tests/bpf"
    assert not harness.permitted()


PING, PONG = "10.9.0.1:0->10.9.0.2:0(icmp)", "10.9.0.2:0->10.9.0.1:0(icmp)"
PING6, PONG6 = "[fd09::1]:0->[fd09::2]:0(icmp6)", "[fd09::2]:0->[fd09::1]:0(icmp6)"
UDP = "10.9.0.1:7777->10.9.0.2:9999(udp)"  # is answered by ICMP
TCP, RST = "10.9.0.1:PORT->10.9.0.2:9998(tcp)", "10.9.0.2:9998->10.9.0.1:PORT(tcp)"
FLAGS: dict[tuple[str, ...], set[str]] = {
    (): {PING, PONG, PING6, PONG6, UDP, TCP, RST},
    ("--src-ip=10.9.0.1",): {PING, UDP, TCP},
    ("--src-ip=10.9.0.2/31",): {PONG, RST},
    ("--dst-ip=10.9.0.1",): {PONG, RST},
    ("--dst-ip=10.9.0.2/31",): {PING, UDP, TCP},
    ("--src-ip=fd09::2",): {PONG6},
    ("--sport=7777",): {UDP},
    ("--sport=9998",): {RST},
    ("--dport=9999",): {UDP},
    ("--proto=udp",): {UDP},
    ("--proto=6",): {TCP, RST},
    ("--proto=58",): {PING6, PONG6},
    ("--dst-ip=10.9.0.1", "icmp or tcp"): {PONG, RST},
    ("--src-ip=10.9.0.1", "--dport=9998", "--proto=tcp", "not udp"): {TCP},
}


@pytest.mark.three_kernels
def test_flags_that_are_joined_to_the_filter(network: Network, pwru: Callable[..., Trace]) -> None:
    """Each lets pass what it names, and nothing else of the same traffic."""
    with ExitStack() as stack:
        traces = {flags: stack.enter_context(pwru("--filter-func=ip_rcv|ipv6_rcv", *flags)) for flags in FLAGS}
        network.ping()
        network.ping("-6", to=network.destination6)
        send_udp(network, 1)
        connect(network, network.destination, 9998)
        for trace in traces.values():
            assert trace.stop() == 0
    assert {flags: tuples(trace) for flags, trace in traces.items()} == FLAGS


def tuples(trace: Trace) -> set[str]:
    """Of the traffic above: IPv6 sends some for its own ends."""
    found = {re.sub(r"10\.9\.0\.1:\d+(?=.*\(tcp\))", "10.9.0.1:PORT", row["tuple"]) for row in trace.rows()}
    return {each for each in found if not each.endswith("(icmp6)") or each in (PING6, PONG6)}
