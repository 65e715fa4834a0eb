"""Runs that follow packets: what is printed of them, how they are counted, and who waits at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from pwru.record.account import Account, Waiting
from pwru.record.memo import CACHE_LIMIT
from pwru.record.names import Function, Hit
from pwru.sinks.json import Json
from pwru.sinks.lines import Format, Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.text import Text
from tests.support.records import cut, follow, hit, record, schema, u64
from tests.support.source import FakeNames, FakeSource

FOLLOWING = schema("follow")
A, B = 3 << 60, 1 << 50
SKB, OTHER = 0xFFFF888000001000, 0xFFFF888000002000
HERE, DROP, END, AFTER = hit(0xA), hit(0xD, 2), hit(0xE), hit(0xF)
BOLD = "\x1b[1m"
FORMATS = pytest.mark.parametrize("form", [Text, Json])


def function(hit: Hit) -> Function:
    return Function(f"f{hit.addr:x}", "there" if hit.reason else "", bool(hit.reason))


NAMES = FakeNames(function, ends={0xE}, after_ends={0xF})


def event(told: bytes, skb: int = SKB, at: bytes = HERE) -> bytes:
    return record(skb=skb, hit=at, rest=told)


def made(form: type[Format], **style: Any) -> Format:
    return form(FOLLOWING, NAMES, LineStyle(**style))


def lines(form: Format, *records: bytes) -> list[str]:
    return form.events(cut(form.schema, *records)).splitlines()


def pkt(*told: bytes) -> list[str]:
    """Return what the column PKT has of events."""
    form = made(Text, packet_id=True)
    header = form.header()
    assert header.startswith("PKT         SKB ")
    end = header.index("SKB")
    return [line[:end].rstrip() for line in lines(form, *map(event, told))]


def objects(*records: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(made(Json), *records)]


def test_the_column() -> None:
    assert pkt(
        follow(A),
        follow(A, 2, relation="CLONE", parent=(A, A)),
        follow(A, 3, relation="SEGMENT", parent=(A, 2), segment=3),
        follow(A, transmission=1),
        follow(A, transmission=2),
        follow(A, 3, segment=3, transmission=12),
        follow(B),
        follow(),
    ) == ["#1", "#1b", "#1/3", "#1", "#1 tx2", "#1/3 tx12", "#2", "-"]


@FORMATS
def test_another_skb_that_is_worked_on_for_a_packet(form: type[Format]) -> None:
    """It is no packet of its own, nor one that was not followed."""
    output = made(form, packet_id=True)
    _, other, lookup = lines(
        output,
        event(follow(A)),
        event(follow(A, 0, tracked_by="STACKID"), skb=OTHER),
        event(follow(A, tracked_by="STACKID")),
    )
    if form is Text:
        assert (other.split()[0], lookup.split()[0]) == ("#1~", "#1")
    else:
        told = [(o["packet"], o["instance"], o["tracked_by"]) for o in map(json.loads, (other, lookup))]
        assert told == [(1, None, "stackid"), (1, 0, "stackid")]
    assert (output.packets, output.not_followed) == (1, 0)


def test_a_relation_stands_behind_the_function() -> None:
    told = [
        follow(A, 2, relation="CLONE", parent=(A, A)),
        follow(A, 3, relation="COPY", parent=(A, 2)),
        follow(A, 4, relation="SEGMENT", parent=(A, A), segment=1),
        follow(A, 5, relation="FRAGMENT", parent=(A, 4), segment=2),
        follow(A, 6, relation="SPLIT", parent=(A, A)),
        follow(A, relation="MERGED", parent=(B, B), ended=True),
        follow(B, 8, relation="XDP", parent=(B, B)),
        follow(B, 9, relation="XDP"),
        follow(B, 9),
    ]
    printed = lines(made(Text, packet_id=True), *map(event, told))
    assert [line.partition("(icmp) ")[2] for line in printed] == [
        "fa(clone of #1)", "fa(copy of #1b)", "fa(segment of #1)", "fa(fragment of #1/1)", "fa(split from #1)",
        "fa(merged into #2)", "fa(by XDP from #2)", "fa(xdp)", "fa",
    ]  # fmt: skip


def test_a_relation_with_a_caller_and_in_color() -> None:
    form = made(Text, packet_id=True, color=True, caller=True)
    told = follow(A, 2, relation="CLONE", parent=(A, A))
    (line,) = lines(form, event(told, at=DROP))
    assert line.startswith(f"{BOLD}#1b         0x")
    assert line.endswith("\x1b[31mfd(clone of #1)\x1b[39m there\x1b[0m")


def test_text_is_as_it_was_without_the_column() -> None:
    """Whatever is told."""
    told = [follow(A, 2, relation="CLONE", parent=(A, A), transmission=3), follow(A, ended=True), follow()]
    printed = lines(made(Text), *map(event, told))
    assert printed == lines(Text(schema(), NAMES), *[record(skb=SKB, hit=HERE)] * 3)
    assert made(Text).header() == Text(schema(), NAMES).header()


@pytest.mark.parametrize("width", [*range(60, 200, 7), 80, 200])
@pytest.mark.parametrize("clock", ["none", "relative", "absolute"])
def test_lines_fit_a_terminal(width: int, clock: str) -> None:
    of = schema("follow", "time")
    style = LineStyle(timestamp=clock, packet_id=True)
    data = cut(of, *(record(hit=HERE, rest=told + u64(10**14)) for told in (follow(A), follow(A, 2, transmission=2))))
    wide, form = Text(of, NAMES, style), Text(of, NAMES, style._replace(width=width))
    printed = (form.header() + form.events(data)).split("\n")
    assert all(len(line.rstrip()) <= width for line in printed)
    words = re.sub("\n   ", "  ", "\n".join(printed)).split()
    assert words == (wide.header() + wide.events(data)).split()


def test_json() -> None:
    first, clone, segment, none = objects(
        event(follow(A, tracked_by="FILTER")),
        event(follow(A, 2, relation="CLONE", parent=(A, A), tracked_by="RELATION")),
        event(follow(A, 3, segment=2, transmission=1)),
        event(follow(tracked_by="FILTER")),
    )
    assert first.keys() == {"packet", "instance", "tracked_by"} | objects_without_following().keys()
    assert (first["packet"], first["instance"], first["tracked_by"]) == (1, 0, "filter")
    assert (clone["packet"], clone["instance"], clone["tracked_by"]) == (1, 1, "relation")
    assert (clone["relation"], clone["parent"]) == ("clone", {"packet": 1, "instance": 0})
    assert (clone["func"], clone.keys() & {"segment", "transmission"}) == ("fa", set())
    assert (segment["instance"], segment["tracked_by"]) == (2, "skb")
    assert (segment["segment"], segment["transmission"]) == (2, 1)
    assert (none["packet"], none["instance"], none["tracked_by"]) == (None, None, "filter")
    assert not none.keys() & {"relation", "parent", "segment", "transmission"}


def objects_without_following() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Json(schema(), NAMES).events(cut(schema(), record())))
    return value


def test_json_of_a_parent_that_is_not_followed() -> None:
    (told,) = objects(event(follow(A, relation="XDP")))
    assert (told["relation"], told["parent"]) == ("xdp", {"packet": None, "instance": None})


@FORMATS
def test_packets_are_counted_by_their_numbers(form: type[Format]) -> None:
    """Whatever addresses their skbs have, and whatever ends are seen."""
    output = made(form)
    lines(output, event(follow(A)), event(follow(B), OTHER), event(follow(A, 2), OTHER), event(follow(A), at=END))
    lines(output, event(follow(B, 3)), event(follow(B, ended=True), at=END), event(follow(A, 2, ended=True), at=END))
    assert (output.packets, output.not_followed) == (2, 0)


@FORMATS
def test_packets_that_are_not_followed_are_counted_by_skb(form: type[Format]) -> None:
    output = made(form)
    lines(output, event(follow()), event(follow(), OTHER), event(follow()), event(follow(A), 7))
    assert (output.packets, output.not_followed) == (3, 2)
    lines(output, event(follow(), at=END), event(follow(), at=AFTER), event(follow()))
    assert (output.packets, output.not_followed) == (4, 3)


@FORMATS
def test_a_packet_that_is_followed_later_is_one(form: type[Format]) -> None:
    """From its beginning it was not; the next one with the address is another packet."""
    output = made(form)
    lines(output, event(follow()), event(follow(A)), event(follow(A, ended=True), at=END), event(follow(), at=AFTER))
    assert (output.packets, output.not_followed) == (1, 1)
    lines(output, event(follow()))
    assert (output.packets, output.not_followed) == (2, 2)


@FORMATS
def test_an_address_that_a_clone_has_taken(form: type[Format]) -> None:
    """Nobody told the end of the packet that had it before, which is not the clone's."""
    output = made(form)
    lines(output, event(follow()), event(follow(A), OTHER), event(follow(A, 2)), event(follow()))
    assert (output.packets, output.not_followed) == (3, 2)


@FORMATS
def test_packets_of_a_batch_of_which_a_part_is_printed(form: type[Format]) -> None:
    output = made(form)
    lines(output, event(follow(A)))
    batch = cut(FOLLOWING, *map(event, (follow(A), follow(B), follow(), follow(B))), event(follow(7), OTHER))
    output.events(batch)
    assert [output.packets_begun(batch[:printed]) for printed in range(6)] == [0, 0, 1, 2, 2, 3]


def test_only_the_first_line_of_a_packet_is_bold() -> None:
    told = [follow(A), follow(A, 2, relation="CLONE", parent=(A, A)), follow(B), follow(A), follow(), follow()]
    printed = lines(made(Text, color=True), *map(event, told))
    assert [line.startswith(BOLD) for line in printed] == [True, False, True, False, True, False]


@FORMATS
def test_what_is_kept_is_bounded(form: type[Format]) -> None:
    """Packets that return keep their numbers, and are counted once."""
    output = made(form, packet_id=True)
    for _ in range(2):
        printed = lines(output, *(event(follow(A + n)) for n in range(CACHE_LIMIT + 1)))
        assert ("#5 " in printed[4]) or ('"packet":5,' in printed[4])
    assert output.packets == CACHE_LIMIT + 1


def test_relative_times_are_those_of_the_packet() -> None:
    """From skb to skb."""
    of = schema("follow", "time")
    form = Json(of, NAMES, LineStyle(timestamp="relative"))
    told = [(follow(A), SKB, 100), (follow(B), 7, 105), (follow(A, 2), OTHER, 110), (follow(), 9, 120)]
    told += [(follow(A), SKB, 150), (follow(), 9, 155), (follow(A + 1), SKB, 160)]
    data = cut(of, *(record(skb=skb, rest=each + u64(time)) for each, skb, time in told))
    assert [json.loads(line)["time"] for line in form.events(data).splitlines()] == [0, 0, 10, 0, 40, 35, 0]


class Clock:
    """Stands for time.monotonic()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("pwru.sinks.lines.monotonic", lambda: self.now)


class Nowhere(Stream):
    def put(self, data: bytes) -> int:
        return 0


def sink(form: type[Format], names: FakeNames = NAMES) -> Lines:
    lines = Lines(form, Nowhere(), LineStyle())
    lines.begin(FakeSource(FOLLOWING, names))
    return lines


def write(to: Lines, records: Sequence[bytes]) -> None:
    assert to.write(cut(FOLLOWING, *records)) == 0


ACCOUNT = Account(9, 0, 0, 0, 4 << 20, 9, 3, follow_limit=1024, living=frozenset({A, B, *range(10)}))


def test_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, to = Clock(monkeypatch), sink(Text)
    write(to, [event(follow(A)), event(follow(A), at=DROP), event(follow(B)), event(follow(7)), event(follow(7, 8))])
    write(to, [event(follow(9)), event(follow(9, ended=True), at=END), event(follow())])
    clock.now += 11
    write(to, [event(follow(B)), event(follow(7, 8, relation="CLONE", parent=(7, 7)))])
    clock.now += 1
    to.ending()
    clock.now += 5  # it took some time to detach
    to.ending()
    write(to, [event(follow(3), OTHER)])
    assert to.account(ACCOUNT).splitlines() == [
        "9 events of 3 packets, 0 lost",
        "#1 was last seen 12 s ago in fd",
        "#3 was last seen 12 s ago in fa",
    ]
    assert (to.packets, to.not_followed) == (6, 1)


def test_who_waits_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, to = Clock(monkeypatch), sink(Json)
    write(to, [event(follow(A, 7))])
    clock.now += 2.25
    account = json.loads(to.account(ACCOUNT))
    assert account["waiting"] == [{"packet": 1, "instance": 1, "seconds": 2.2, "place": "fa"}]


def test_nobody_waits_where_no_ends_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or if there is nothing that could wait."""
    clock, names = Clock(monkeypatch), FakeNames(function)
    names.sees_ends = False
    blind = sink(Text, names)
    for to in (blind, Lines(Text, Nowhere(), LineStyle()), sink(Json)):
        if to is blind:
            write(to, [event(follow(A))])
        clock.now += 5
        assert "last seen" not in to.account(ACCOUNT)
        assert '"seconds"' not in to.account(ACCOUNT)


def test_waiting_is_plain_data() -> None:
    waits = Waiting(17, 1, 12.9, "__dev_queue_xmit", "#17b")
    assert ACCOUNT._replace(waiting=(waits,)).text().splitlines()[1:] == [
        "#17b was last seen 12 s ago in __dev_queue_xmit"
    ]
