"""Numbers of packets and of their skbs: small, in order of appearance, never used twice, and in bounded memory."""

from __future__ import annotations

import itertools

import pytest

from pwru.record import follow as module
from pwru.record.follow import Numbers, Skb
from pwru.record.parts import Follow

# The kernel's numbers are large, and have no order that a reader sees.
FIRST, SECOND, THIRD = 3 << 60, 1 << 50, 2 << 55


def event(
    packet: int, instance: int = 0, *, segment: int = 0, relation: str | None = None, ended: bool = False
) -> Follow:
    return Follow(packet, instance or packet, 0, 0, 0, segment, "skb", relation, ended)


def numbers(skb: Skb) -> tuple[int, int]:
    return skb.packet.number, skb.instance


def test_numbers_are_in_order_of_appearance() -> None:
    given = Numbers()
    seen = [
        event(FIRST), event(SECOND), event(FIRST), event(FIRST, 9), event(SECOND, 11), event(FIRST, 10),
        event(FIRST, 9), event(THIRD, 12), event(THIRD),
    ]  # fmt: skip
    assert [numbers(given.see(each)) for each in seen] == [
        (1, 0), (2, 0), (1, 0), (1, 1), (2, 1), (1, 2), (1, 1), (3, 1), (3, 0),
    ]  # fmt: skip


def test_a_parent_that_was_not_seen_has_numbers_too() -> None:
    given = Numbers()
    told = event(FIRST, 9)._replace(relation="clone", parent_packet=FIRST, parent=8)
    assert numbers(given.see(told)) == (1, 1)
    parent = given.parent(told)
    assert parent
    assert numbers(parent) == (1, 2)
    merged = event(FIRST, 9)._replace(relation="merged", parent_packet=SECOND, parent=SECOND)
    parent = given.parent(merged)
    assert parent
    assert numbers(parent) == (2, 0)
    assert given.see(event(SECOND)) is parent
    assert given.parent(event(FIRST)) is None
    assert given.parent(event(FIRST)._replace(relation="xdp")) is None  # that was not followed


def test_another_skb_that_is_worked_on_for_a_packet() -> None:
    """It has no number of its own, and none of the packet's waits for it."""
    given = Numbers()
    own = given.see(event(FIRST))
    other = given.see(event(FIRST)._replace(instance=0, tracked_by="stackid"))
    assert (own.name, other.name, other.packet is own.packet) == ("#1", "#1~", True)
    assert numbers(given.see(event(FIRST, 9))) == (1, 1)
    assert other not in given.unseen(1e9, {FIRST, 9, 0})


@pytest.mark.parametrize(
    ("instance", "name"), [(0, "#1"), (1, "#1b"), (2, "#1c"), (25, "#1z"), (26, "#1aa"), (27, "#1ab"), (701, "#1zz"),
                           (702, "#1aaa")]
)  # fmt: skip
def test_names(instance: int, name: str) -> None:
    given = Numbers()
    skb = given.see(event(FIRST))
    for number in range(instance):
        skb = given.see(event(FIRST, number + 1))
    assert (skb.instance, skb.name) == (instance, name)


def test_a_segment_needs_no_letter_unless_another_one_has_its_number() -> None:
    given = Numbers()
    given.see(event(FIRST))
    segments = [given.see(event(FIRST, 10 + n, segment=n)) for n in (1, 2, 3)]
    again = [given.see(event(FIRST, 20 + n, segment=n)) for n in (2, 3)]
    assert [skb.name for skb in segments] == ["#1/1", "#1/2", "#1/3"]
    assert [skb.name for skb in again] == ["#1e/2", "#1f/3"]
    assert given.see(event(FIRST, 12)).name == "#1/2"  # also where an event does not say it


def test_what_ended_is_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDED_LIMIT", 2)
    given = Numbers()
    for _ in range(3):  # functions after the end have it, too
        assert numbers(given.see(event(FIRST, ended=True))) == (1, 0)
    assert numbers(given.see(event(FIRST, 9))) == (1, 1)
    for other in (SECOND, THIRD, 7):
        given.see(event(other, ended=True))
    # The first skb is forgotten, the packet is not: the clone lives.
    assert numbers(given.see(event(FIRST, 9, ended=True))) == (1, 1)
    assert numbers(given.see(event(SECOND, ended=True))) == (5, 0)  # nothing of it was known


def test_who_lives_keeps_its_number() -> None:
    """However many come and go."""
    given = Numbers()
    given.see(event(1))
    packets = itertools.count(2)
    for packet in itertools.islice(packets, 2 * module.ENDED_LIMIT):
        given.see(event(packet))
        given.see(event(packet, ended=True))
    assert numbers(given.see(event(1))) == (1, 0)
    assert numbers(given.see(event(next(packets)))) == (2 * module.ENDED_LIMIT + 2, 0)


def test_an_instance_that_comes_up_with_another_packet() -> None:
    """No program of ours says that, but bytes may be any."""
    given = Numbers()
    for ended in (False, True):
        for packet in (FIRST, SECOND, THIRD) * 2:
            skb = given.see(event(packet, 5, ended=ended))
            assert (skb.packet.id, skb.packet.known) == (packet, 1)


def test_beyond_the_limit_who_was_not_seen_for_longest_is_forgotten() -> None:
    given = Numbers(3)
    for packet in (1, 2, 3, 1, 4):
        given.see(event(packet))
    assert [given.see(event(packet)).packet.number for packet in (1, 3, 4)] == [1, 3, 4]
    assert given.see(event(2)).packet.number == 5


def test_who_was_not_seen_for_long() -> None:
    given = Numbers()
    for number, (packet, seen) in enumerate(((FIRST, 3.0), (SECOND, 1.0), (THIRD, 2.0), (7, 1.5), (8, 1.5))):
        skb = given.see(event(packet))
        skb.seen, skb.hit = seen, bytes([number])
    given.see(event(7, ended=True))
    given.see(event(8, relation="merged"))  # it lives in another one
    given.parent(event(9)._replace(relation="clone", parent_packet=10, parent=10))  # never seen itself
    living = {FIRST, SECOND, THIRD, 7, 8, 10}
    assert [skb.packet.number for skb in given.unseen(2.5, living)] == [2, 3]
    assert [skb.packet.number for skb in given.unseen(9, living)] == [2, 3, 1]
    assert [skb.packet.number for skb in given.unseen(9, {SECOND})] == [2]
    assert list(given.unseen(1.0, living)) == []
