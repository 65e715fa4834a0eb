"""Filters on the packet inside a tunnel, on recorded bytes: the cases of the filter in the kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwru.filter.packet import Filter
from pwru.record.parts import Payload
from pwru.replay.packets import packet_test
from pwru.replay.tunnels import Tunnel, find_tunnel
from tests.unit.filter.parsers import IP, IP6, VLAN, tagged
from tests.unit.filter.tunnels import CASES, Case, outer4, outer6


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("link", "make", "length"),
    [
        (b"", outer4, 20),
        (tagged(IP), outer4, 20),
        (tagged(VLAN, IP), lambda case: outer4(case, ihl=7), 28),
        (b"", outer6, 56),
        (tagged(IP6), outer6, 56),
    ],
    ids=["ip", "ether ip", "vlan ip with options", "ip6", "ether ip6"],
)
def test_as_in_the_kernel(link: bytes, make: Callable[[Case], bytes], length: int, case: Case) -> None:
    data, begins = link + make(case), len(link) + length
    wanted = [None if at is None else begins + at for at in (case.mac, case.network)]
    assert find_tunnel(data, has_mac=bool(link)) == Tunnel(*wanted)


def test_a_later_fragment() -> None:
    """It has no header of a tunnel, whatever its bytes look like."""
    assert {find_tunnel(outer4(case, offset=100), has_mac=False) for case in CASES.values()} == {Tunnel()}


def test_other_protocols() -> None:
    assert find_tunnel(tagged(0x0806) + outer4(CASES["ipip"]), has_mac=True) == Tunnel()
    assert find_tunnel(b"\x50" + outer4(CASES["ipip"])[1:], has_mac=False) == Tunnel()


@given(st.binary(max_size=128), st.booleans(), st.sampled_from(list(CASES.values())), st.integers(0, 128))
def test_whatever_is_there(tail: bytes, has_mac: bool, case: Case, end: int) -> None:
    data = ((tagged(IP) if has_mac else b"") + outer4(case))[:end] + tail
    mac, network = find_tunnel(data, has_mac=has_mac)
    assert mac is None or (network is not None and mac < network)
    assert network is None or 20 <= network <= len(data)


@pytest.mark.parametrize(
    ("wanted", "passed"),
    [
        (Filter(inner_l3="udp dst port 8"), CASES.keys()),
        (Filter(inner_l3="udp dst port 9"), {name for name, case in CASES.items() if case.network is None}),
        (Filter(inner_l2="ether dst 00:00:00:00:00:01"), {name for name, case in CASES.items() if case.mac is None}),
        (Filter(inner_l2="vlan", inner_l3="udp"), {"a tag inside"} | {n for n, c in CASES.items() if c.mac is None}),
        (Filter("ip proto 47", inner_l3="ip6"), {"gre, IPv6", "pptp", "gre with routing", "gre, MPLS"}),
        # The length is that of the whole packet, of which there may be more than these bytes.
        (
            Filter("udp and port 4789", inner_l3="len = 128"),
            {"vxlan", "vxlan with a policy", "a tag inside", "IPv6 inside", "cut"},
        ),
    ],
)
def test_filters(wanted: Filter, passed: set[str]) -> None:
    test = packet_test(wanted)
    found = set()
    for name, case in CASES.items():
        data = tagged(IP) + outer4(case)
        inside = len(tagged(IP)) + 20 + (case.network or 0)
        if test(Payload(inside + 128, True, data)):
            found.add(name)
    assert found == set(passed)
