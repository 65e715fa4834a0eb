"""What packets have in common: drops, ways, times, and what waits; bounded, whatever comes."""

from __future__ import annotations

import pytest

from pwru.record import stage_times
from pwru.record import summary as module
from pwru.record.packets import Packets
from pwru.record.summary import Drop, Summary, landmarks
from tests.support.records import follow
from tests.support.source import FakeNames
from tests.support.ways import (
    DROP,
    END,
    MS,
    NAMES,
    OUT,
    RCV,
    SCHEMA,
    Event,
    dropped,
    events,
    function,
    good,
    resting,
    ways,
)

GOOD = ("ip_output", "ip_rcv", "tcp_v4_rcv", "skb_release_head_state")
BAD = ("ip_output", "ip_rcv", "kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)", "skb_release_head_state")


def nobody_knows(_skb: int, _instance: int) -> bool | None:
    return None


def summed(*packets: list[Event]) -> Summary:
    of = Summary(SCHEMA, NAMES, nobody_knows)
    of.add(ways(*packets))
    return of


def test_ways() -> None:
    of = summed(*(good(number, number, length=number) for number in range(1, 6)), dropped(6), dropped(7))
    assert (of.packets, of.dropped, of.continues) == (7, 2, 0)
    found = {(functions, end): way for (functions, end), way in of.ways.items()}
    assert found.keys() == {((GOOD,), "ended"), ((BAD,), "dropped")}
    received = found[(GOOD,), "ended"]
    assert (received.times.count, received.times.percentile(50), received.times.most) == (5, 3 * MS, 5 * MS)
    assert (of.first, of.last) == (MS, 10 * MS)


def test_drops() -> None:
    of = summed(good(1), dropped(2), dropped(3))
    expected = Drop("NO_SOCKET", "kfree_skb_reason", "ip_rcv", 4026531840, "v0:2", "ping")
    assert of.drops == {expected: 2}
    (taken,) = [way for way in of.ways.values() if way.end == "dropped"]
    assert taken.drop == expected


def test_times_between_functions() -> None:
    of = summed(good(1, length=3), good(2, length=7))
    assert of.spans["ip_output", "ip_rcv"].count == 2
    assert of.spans["ip_rcv", "tcp_v4_rcv"].most == 6 * MS
    assert of.spans["ip_rcv", "tcp_v4_rcv"].least == 2 * MS


def test_times_in_stages() -> None:
    of = summed(good(1, length=3), good(2, length=7), dropped(3))
    found = {" ".join(stage).rstrip(): (times.count, times.most) for stage, times in of.stages.items()}
    assert found == {
        "IP out": (3, MS),
        "IP in": (3, 6 * MS),
        "TCP receive": (2, 0),
        "released": (2, 0),
        "dropped NO_SOCKET": (1, 0),
    }


def test_stages_of_a_way_are_those_of_its_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept or found out again, they are the same."""
    packets = [good(1, 1), dropped(2, 2), good(3, 3), resting(4, 4)]
    kept = summed(*packets).stages
    monkeypatch.setattr(stage_times, "KNOWN", 0)
    again = summed(*packets).stages
    assert {stage: (times.count, times.total) for stage, times in kept.items()} == {
        stage: (times.count, times.total) for stage, times in again.items()
    }


def test_each_skb_has_its_own_functions() -> None:
    """Whatever the order in which two CPUs say so; a clone begins where its packet is."""
    packet, clone = 1 << 50, 2 << 50
    born = (2, RCV, follow(packet, clone, parent=(packet, packet), relation="CLONE"))
    rest = [(9, END, follow(packet, ended=True)), (9, END, follow(packet, clone, ended=True))]
    of = Summary(SCHEMA, NAMES, nobody_knows)
    for received in (3, 5):
        of.add(ways([(1, OUT, follow(packet)), born, (received, RCV, follow(packet)), *rest]))
        rest.reverse()
    (taken,) = of.ways.values()
    assert taken.functions == (
        ("ip_output", "ip_rcv", "skb_release_head_state"),
        ("ip_rcv", "skb_release_head_state"),
    )
    assert taken.times.count == 2
    assert of.spans["ip_output", "ip_rcv"].count == 4
    assert {stage: times.count for (stage, _), times in of.stages.items()} == {"IP out": 2, "IP in": 4, "released": 4}


def test_what_waits() -> None:
    of = summed(good(1), resting(2, 2), resting(3, 1))
    of.begun = 3
    assert [(waiting.name, waiting.place, waiting.seen) for waiting in of.waiting] == [
        ("#2", "ip_rcv", 2 * MS),
        ("#3", "ip_rcv", 3 * MS),
    ]
    assert of.open == 2


def test_a_packet_that_goes_on() -> None:
    """It waited for so long that it was counted before."""
    packets = Packets(SCHEMA, NAMES, idle=100 * MS)
    of = Summary(SCHEMA, NAMES, nobody_knows)
    of.add(packets.add(events(*resting(1), (500, OUT, follow(2 << 50)))))
    assert len(of.waiting) == 1
    of.add(packets.add(events((501, DROP, follow(1 << 50)), (502, END, follow(1 << 50, ended=True)))) + packets.drain())
    assert [waiting.name for waiting in of.waiting] == ["#2"]
    assert (of.packets, of.continues, of.dropped) == (2, 1, 1)


def test_what_ended_without_an_event() -> None:
    living = {2 << 50, 3 << 50}
    of = Summary(SCHEMA, NAMES, lambda _, instance: instance in living)
    of.add(ways(resting(1), resting(2), resting(3)))
    assert [waiting.name for waiting in of.waiting] == ["#2", "#3"]
    assert {end: way.times.count for (_, end), way in of.ways.items()} == {"unseen": 1, "open": 2}
    living.clear()
    assert of.waiting == []


def test_nothing_waits_where_ends_are_not_seen() -> None:
    names = FakeNames(function)
    names.sees_ends = False
    of = Summary(SCHEMA, names, nobody_knows)
    of.add(ways(resting(1)))
    assert of.waiting == []


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("WAYS", "DROPS", "SPANS", "WAITING"):
        monkeypatch.setattr(module, limit, 1)
    of = Summary(SCHEMA, NAMES, nobody_knows)
    of.add(ways(good(1), good(2)) + ways(dropped(3)) + ways(resting(4), resting(5)))
    assert (len(of.ways), of.other_ways.count) == (1, 3)
    assert (len(of.spans), of.other_spans.count) == (1, 6)
    assert (len(of.waiting), of.other_waiting) == (1, 1)
    of.add(ways(dropped(6)))
    assert sum(of.drops.values()) + of.other_drops == 2


def test_what_tells_a_way_from_others() -> None:
    told, end = follow(9 << 50), follow(9 << 50, ended=True)
    short = [(1.0, OUT, told), (2.0, END, end)]
    of = summed(good(1), dropped(2), short)
    assert landmarks(list(of.ways.values())) == [
        ["ip_output", "ip_rcv", "tcp_v4_rcv"],
        ["ip_output", "ip_rcv"],
        ["ip_output"],
    ]
