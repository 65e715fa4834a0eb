"""Records grouped by packet: what is a packet, when it is over, how it ended, and how much is held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pwru.errors import PwruError
from pwru.record.follow import Numbers
from pwru.record.names import Function, Hit
from pwru.record.packets import DROPPED, ENDED, EVICTED, MERGED, OPEN, UNSEEN, End, Packets, Way
from pwru.record.schema import Record
from tests.support.records import cut, follow, hit, record, schema, u64
from tests.support.source import FakeNames

FOLLOWING, PLAIN = schema("follow", "time"), schema("time")
A, B, C = 3 << 60, 1 << 50, 2 << 55
SKB, OTHER = 0xFFFF888000001000, 0xFFFF888000002000
HERE, DROP, END, AFTER, SHOT = hit(0xA), hit(0xD, 2), hit(0xE), hit(0xF), hit(0xC)
MS = 1_000_000


def function(hit: Hit) -> Function:
    if hit.addr == 0xD:
        return Function("kfree_skb_reason(NO_SOCKET)", "udp_rcv" if hit.location else "", drops=True)
    if hit.addr == 0xC:
        return Function("prog(tc)", "", drops=True, verdict="TC_ACT_SHOT")
    return Function(f"f{hit.addr:x}", "")


NAMES = FakeNames(function, ends={0xE}, after_ends={0xF})


def followed(*events: tuple[int, bytes, bytes]) -> list[Record]:
    """Each event is a time in ms, where it was, and struct follow."""
    return cut(FOLLOWING, *(record(hit=at, rest=told + u64(time * MS)) for time, at, told in events))


def plain(*events: tuple[int, bytes, int]) -> list[Record]:
    """The same of packets that are not followed: the last is the address of the skb."""
    return cut(PLAIN, *(record(skb=skb, hit=at, rest=u64(time * MS)) for time, at, skb in events))


def grouped(records: Iterable[Record], **more: Any) -> list[Way]:
    """All ways, given out one record at a time, and then at the end."""
    records = list(records)
    packets = Packets(FOLLOWING if records[0].follow else PLAIN, NAMES, **more)
    ways = [way for each in records for way in packets.add([each])] + packets.drain()
    assert (packets.held, sum(len(way.steps) for way in ways)) == (0, len(records))
    return ways


def told(ways: Iterable[Way]) -> list[tuple[str, str, list[str]]]:
    return [(way.name, way.end, [step.function.name for step in way.steps]) for way in ways]


def test_packets_by_number() -> None:
    ways = grouped(
        followed(
            (1, HERE, follow(A)), (2, HERE, follow(B)), (3, END, follow(A, ended=True)), (4, HERE, follow(B)),
            (4, AFTER, follow(A, ended=True)), (99, HERE, follow(B)),
        )
    )  # fmt: skip
    assert told(ways) == [("#1", ENDED, ["fa", "fe", "ff"]), ("#2", OPEN, ["fa", "fa", "fa"])]
    assert [(way.first, way.last, way.duration) for way in ways] == [(MS, 4 * MS, 3 * MS), (2 * MS, 99 * MS, 97 * MS)]
    assert ways[0].steps[1].record.hit == END
    assert ways[0].steps[1].time == 3 * MS
    assert [skb.name for skb in ways[0].skbs] == ["#1"]


def test_records_as_the_kernel_gives_them() -> None:
    """They are plain tuples; steps have Records."""
    (way,) = Packets(PLAIN, NAMES).add([tuple(r) for r in plain((1, END, SKB), (99, HERE, OTHER))])  # type: ignore[misc]
    assert (way.steps[0].record.skb, way.steps[0].time) == (SKB, MS)


def test_packets_by_address() -> None:
    ways = grouped(
        plain(
            (1, HERE, SKB), (2, HERE, OTHER), (3, END, SKB), (4, AFTER, SKB), (5, HERE, SKB), (6, DROP, SKB),
            (7, END, SKB), (8, END, SKB), (99, AFTER, SKB), (99, HERE, OTHER),
        )
    )  # fmt: skip
    assert told(ways) == [
        ("#1", ENDED, ["fa", "fe", "ff"]),
        ("#3", DROPPED, ["fa", "kfree_skb_reason(NO_SOCKET)", "fe"]),
        ("#4", ENDED, ["fe", "ff"]),
        ("#2", OPEN, ["fa", "fa"]),
    ]


def test_what_there_was_no_room_to_follow() -> None:
    """It has no number, and is told apart by its address."""
    ways = grouped(followed((1, HERE, follow()), (2, HERE, follow(A)), (3, END, follow()), (99, HERE, follow())))
    assert told(ways) == [("#?", ENDED, ["fa", "fe"]), ("#1", OPEN, ["fa"]), ("#?", OPEN, ["fa"])]


def test_clones_belong_to_their_packet() -> None:
    """It is over when all of them have ended."""
    clone = follow(A, 2, relation="CLONE", parent=(A, A))
    (way,) = grouped(
        followed(
            (1, HERE, follow(A, transmission=1)), (2, HERE, clone), (3, END, follow(A, ended=True)),
            (500, HERE, follow(A, 2, transmission=2)), (501, END, follow(A, 2, ended=True)),
        )
    )  # fmt: skip
    first, second = way.skbs
    assert (first.name, second.name) == ("#1", "#1b")
    assert [birth.step for birth in way.skbs.values()] == [0, 1]
    assert (way.skbs[second].relation, way.skbs[second].parent) == ("clone", first)
    assert [(end.how, end.step) for end in way.ends.values()] == [(ENDED, 2), (ENDED, 4)]
    assert (way.end, way.transmissions) == (ENDED, 2)


def test_an_end_that_only_the_function_tells() -> None:
    """Some release an skb without what tells it; another skb that they release is none of the packet's."""
    other = follow(A, 0, tracked_by="STACKID")
    (way,) = grouped(followed((1, HERE, follow(A)), (2, END, other), (3, HERE, follow(A)), (4, END, follow(A))))
    assert (way.end, [(skb.name, end.step) for skb, end in way.ends.items()]) == (ENDED, [("#1", 3)])


def test_a_clone_that_shows_up_just_after_the_end() -> None:
    clone = follow(A, 2, relation="CLONE", parent=(A, A))
    (way,) = grouped(followed((1, END, follow(A, ended=True)), (40, HERE, clone), (99, HERE, follow(A, 2))))
    assert way.end == OPEN


def test_merged_into_another_packet() -> None:
    ways = grouped(
        followed(
            (1, HERE, follow(B)), (2, HERE, follow(A)), (3, HERE, follow(A, relation="MERGED", parent=(B, B))),
            (4, END, follow(A, ended=True)), (99, HERE, follow(B)),
        )
    )  # fmt: skip
    merged, whole = ways
    assert told(ways) == [("#2", MERGED, ["fa", "fa", "fe"]), ("#1", OPEN, ["fa", "fa"])]
    assert list(merged.ends.values()) == [End(MERGED, 1, next(iter(whole.skbs)))]


def test_a_drop() -> None:
    """The first function that drops an skb says why; its caller is the place, or else the function before it."""
    end = follow(A, ended=True)
    for at, reason, place in (
        (DROP + u64(), "NO_SOCKET", "f9"),
        (SHOT, "TC_ACT_SHOT", "f9"),
    ):
        (way,) = grouped(followed((1, HERE, follow(A)), (2, hit(9), follow(A)), (3, at, follow(A)), (4, END, end)))
        ((skb, drop),) = way.drops
        assert (way.end, skb.name, drop) == (DROPPED, "#1", End(DROPPED, 2, None, reason, place))
    located = schema("follow", "time", "location")
    data = record(hit=hit(0xD, 2, 99), rest=follow(A) + u64(1)), record(hit=hit(0xD, 2, 98), rest=follow(A) + u64(2))
    packets = Packets(located, NAMES)
    packets.add(cut(located, *data))
    (way,) = packets.drain()
    assert [drop for _, drop in way.drops] == [End(DROPPED, 0, None, "NO_SOCKET", "udp_rcv")]


def test_who_is_not_seen_for_a_while() -> None:
    packets = Packets(FOLLOWING, NAMES, idle=1000 * MS)
    assert packets.add(followed((1, HERE, follow(A)), (2, HERE, follow(B)))) == []
    assert packets.sweep(900 * MS) == []
    assert told(packets.add(followed((1001, HERE, follow(B)), (1500, HERE, follow(B))))) == [("#1", UNSEEN, ["fa"])]
    assert told(packets.sweep(9000 * MS)) == [("#2", UNSEEN, ["fa"] * 3)]
    packets.add(followed((9001, HERE, follow(A)), (9002, END, follow(A, ended=True))))
    (rest,) = packets.sweep(9100 * MS)
    assert (rest.name, rest.end, rest.continues) == ("#1", ENDED, True)
    assert packets.drain() == packets.add([]) == []


def test_no_more_is_held_than_the_limit() -> None:
    events = [(n, HERE, follow(A + n % 10)) for n in range(79)]
    ways = grouped(followed(*events, (79, END, follow(A + 9, ended=True)), (80, HERE, follow(B))), limit=80)
    assert [(way.name, way.end, way.continues) for way in ways[:2]] == [("#1", EVICTED, False), ("#2", EVICTED, False)]
    assert {way.name: way.end for way in ways[2:]} == {f"#{n}": OPEN for n in (3, 4, 5, 6, 7, 8, 9, 11)} | {
        "#10": ENDED
    }
    packets = Packets(FOLLOWING, NAMES, limit=80)
    for time, at, of in events * 5:
        packets.add(followed((time, at, of)))
        assert packets.held <= 80
    assert packets.evicted > 5


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is forgotten changes no number."""
    monkeypatch.setattr("pwru.record.packets.CACHE_LIMIT", 3)
    events = [(n, hit(0x10 + n), follow(A + n % 7, transmission=n)) for n in range(50)]
    ways = grouped(followed(*events))
    assert [way.name for way in ways] == [f"#{n}" for n in range(1, 8)]


def test_several_may_have_the_numbers_of_a_source() -> None:
    records, numbers = followed((1, HERE, follow(A)), (2, HERE, follow(B)), (99, END, follow(B, ended=True))), Numbers()
    for _ in range(2):
        packets = Packets(FOLLOWING, NAMES, numbers)
        ways = packets.add(records) + packets.drain()
        assert [(way.name, way.end, way.continues) for way in ways] == [("#1", OPEN, False), ("#2", ENDED, False)]


def test_names_that_change() -> None:
    """A step keeps the name that its function had when the event came."""
    names = FakeNames(lambda _: Function(f"generation {names.generation}", ""))
    packets = Packets(PLAIN, names)
    for names.generation in (0, 1, 1, 2):
        packets.add(plain((1, HERE, SKB)))
    (way,) = packets.drain()
    assert [step.function.name for step in way.steps] == [f"generation {n}" for n in (0, 1, 1, 2)]


def test_records_need_their_times() -> None:
    with pytest.raises(PwruError, match="events without their times"):
        Packets(schema("follow"), NAMES)
