"""Where good and bad packets part, and what they differed in before."""

from __future__ import annotations

import pytest

from pwru.record import diff as module
from pwru.record.diff import Difference, Group, partings
from tests.support.records import follow
from tests.support.ways import DROP, END, MS, NAMES_BY_NUMBER, OUT, RCV, SCHEMA, TCP, dropped, good, resting, ways

NO_SOCKET = NAMES_BY_NUMBER[0xD]


def group(*packets: object, mark: int = 0) -> Group:
    of = Group(SCHEMA)
    of.add(ways(*packets, mark=mark))  # type: ignore[arg-type]
    return of


def test_where_they_part() -> None:
    (parting,) = partings(group(good(1), good(2), resting(3)), group(dropped(1), dropped(2)))
    assert (parting.good.times.count, parting.bad.times.count) == (2, 2)
    assert (parting.common, parting.last) == (2, "ip_rcv")
    assert (parting.good_next, parting.bad_next) == ("tcp_v4_rcv", NO_SOCKET)
    assert (parting.bad.reason, parting.bad.place, parting.bad.example) == ("NO_SOCKET", "ip_rcv", "#1")
    assert not parting.same
    assert parting.differences == []


def test_what_differed() -> None:
    (parting,) = partings(group(good(1)), group(dropped(1), mark=7))
    assert parting.differences == [Difference("mark", "ip_output", ("0x0",), ("0x7",))]


def test_what_some_have_in_common_is_no_difference() -> None:
    either = group(good(1))
    either.add(ways(good(2), mark=7))
    (parting,) = partings(either, group(dropped(1), mark=7))
    assert parting.differences == []


def test_values_that_are_never_the_same_are_none() -> None:
    many = group()
    for mark in range(100):
        many.add(ways(good(1), mark=mark))
    (parting,) = partings(many, group(dropped(1), mark=200))
    assert parting.differences == []


def test_who_ends_early() -> None:
    (parting,) = partings(group(good(1)), group(resting(1)))
    assert (parting.last, parting.good_next, parting.bad_next) == ("ip_rcv", "tcp_v4_rcv", "")


def test_the_same_way() -> None:
    """Then it is about how long it took."""
    (parting,) = partings(group(good(1)), group(good(1, length=9)))
    assert parting.same
    assert (parting.good_next, parting.bad_next, parting.last) == ("", "", "skb_release_head_state")
    assert parting.slowest == ("tcp_v4_rcv", 2 * MS, 8 * MS)


def test_other_skbs_of_the_packet() -> None:
    """The packet's first skb ends in both; its clone is dropped in one of them."""
    packet, clone = 1 << 50, 2 << 50
    both = [
        (1, OUT, follow(packet)),
        (2, OUT, follow(packet, clone, parent=(packet, packet), relation="CLONE")),
        (3, END, follow(packet, ended=True)),
    ]
    is_good = [*both, (4, TCP, follow(packet, clone)), (9, END, follow(packet, clone, ended=True))]
    is_bad = [*both, (2.5, DROP, follow(packet, clone)), (9, END, follow(packet, clone, ended=True))]
    (parting,) = partings(group(is_good), group(is_bad))
    assert (parting.common, parting.last) == (3, "ip_output")
    assert (parting.good_next, parting.bad_next) == ("tcp_v4_rcv", NO_SOCKET)


def test_nothing_in_common() -> None:
    (parting,) = partings(group([(1.0, RCV, follow(1 << 50))]), group(dropped(1)))
    assert (parting.common, parting.last, parting.good_next, parting.bad_next) == (0, "", "ip_rcv", "ip_output")


def test_most_packets_first() -> None:
    found = partings(group(good(1)), group(resting(1), good(2), dropped(3), dropped(4)))
    assert [(parting.bad.end, parting.bad.times.count) for parting in found] == [("dropped", 2), ("open", 1)]


def test_none() -> None:
    assert partings(group(), group(good(1))) == []
    assert partings(group(good(1)), group()) == []


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAYS", 1)
    of = group(good(1), dropped(2), resting(3), good(4))
    assert (of.packets, of.others, len(of.ways)) == (4, 2, 1)
