"""The flight recorder: which packets reach another sink, with which events, and an account that adds up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pwru.errors import PwruError
from pwru.record.account import Account
from pwru.record.packets import STEPS_LIMIT
from pwru.record.schema import Record
from pwru.record.wrong import Wrong
from pwru.sinks import Sink, Source
from pwru.sinks.only import Only
from tests.support.records import follow
from tests.support.source import FakeNames, FakeSource
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
    in_order,
    resting,
)


class Taking(Sink):
    """Takes `room` records, and gives up what comes after that."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.taken: list[Record] = []
        self.calls: list[str] = []
        self.source: Source | None = None

    def open(self) -> None:
        self.calls.append("open")

    def begin(self, source: Source) -> None:
        self.source = source

    def write(self, records: list[Record]) -> int:
        self.taken += records[: self.room - self.events]
        given_up = self.events + len(records) - len(self.taken)
        self.events = len(self.taken)
        return given_up

    def idle(self) -> None:
        self.calls.append("idle")

    def ending(self) -> None:
        self.calls.append("ending")

    def flush(self) -> None:
        self.calls.append("flush")

    def finish(self, account: Account) -> None:
        self.calls.append("finish")

    def account(self, account: Account) -> str:
        return account.text()

    def close(self) -> None:
        self.calls.append("close")


def recorder(wrong: Wrong, inner: Taking, names: FakeNames = NAMES) -> Only:
    sink = Only(inner, wrong)
    sink.open()
    sink.begin(FakeSource(SCHEMA, names))
    return sink


def passed_on(wrong: Wrong, *packets: list[Event]) -> list[Record]:
    inner = Taking()
    sink = recorder(wrong, inner)
    for record in (records := in_order(*packets)):
        assert sink.write([record]) == 0
    sink.ending()
    sink.flush()
    assert sink.events == len(records)
    return inner.taken


def test_the_whole_way_and_nothing_else() -> None:
    """Packet by packet, whatever came in between."""
    bad = dropped(2), dropped(4)
    found = passed_on(Wrong(dropped=True), good(1), bad[0], good(3), bad[1], resting(5))
    assert found == [*events(*bad[0]), *events(*bad[1])]


def test_records_are_the_same_objects() -> None:
    inner = Taking()
    sink = recorder(Wrong(dropped=True), inner)
    records = in_order(dropped(1))
    sink.write(records)
    sink.flush()
    assert all(ours is theirs for ours, theirs in zip(inner.taken, records, strict=True))


def test_slow_ones() -> None:
    slow = good(2, length=9)
    assert passed_on(Wrong(slower=8 * MS), good(1), slow) == events(*slow)


def test_what_is_stuck_is_passed_on_while_it_is() -> None:
    inner = Taking()
    sink = recorder(Wrong(stuck=True), inner)
    sink.write(in_order(resting(1), good(2)))
    sink.write(in_order(good(3, 1500)))
    assert inner.taken == events(*resting(1))
    # What comes of it then is of the same packet.
    sink.write(events((1600, DROP, follow(1 << 50)), (1600, END, follow(1 << 50, ended=True))))
    sink.flush()
    assert len(inner.taken) == 4
    assert (sink.kept, sink.packets) == (1, 3)


def test_when_no_more_events_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr("time.monotonic_ns", lambda: now)
    inner = Taking()
    sink = recorder(Wrong(stuck=True), inner)
    sink.write(in_order(resting(1)))
    sink.idle()
    assert inner.taken == []
    now += 1100 * MS
    sink.idle()
    assert inner.taken == events(*resting(1))
    assert inner.calls == ["open", "idle", "idle"]


def test_a_packet_may_rest_for_long_before_it_goes_wrong() -> None:
    bad = [(1.0, OUT, follow(1 << 50)), (30_000.0, DROP, follow(1 << 50)), (30_000.0, END, follow(1 << 50, ended=True))]
    assert passed_on(Wrong(dropped=True), bad, good(2, 10_000)) == events(*bad)


def test_it_does_not_grow() -> None:
    """What rests for ever makes room for others."""
    inner = Taking()
    sink = recorder(Wrong(dropped=True), inner)
    count = STEPS_LIMIT + 1000
    batch = events(*((1.0, RCV, follow(number << 40)) for number in range(1, count)))
    sink.write(batch)
    sink.write(in_order(dropped(1 << 13, 2)))
    sink.flush()
    assert len(inner.taken) == 4
    assert "kept" not in json.loads(Account(0, 0, 0, 0, 1 << 20).json())
    text = sink.account(Account(0, 0, 0, 0, 1 << 20, sink.events, sink.packets))
    assert "; 1 packet went wrong, with 4 events, " in text
    assert "could not be held until it was known" in text


def test_what_the_other_sink_gives_up_is_not_printed() -> None:
    inner = Taking(room=5)
    sink = recorder(Wrong(dropped=True), inner)
    assert sink.write(in_order(dropped(1), dropped(2), good(3))) == 0
    assert sink.write(in_order(good(4, 500))) == 3
    assert sink.events == 3 * 4 + 4 - 3
    account = Account(16, 0, 0, 0, 1 << 20, sink.events, sink.packets, sees_ends=True, reader_gone=True)
    assert sink.account(account) == (
        "13 events of 4 packets, 0 lost, 3 not printed (whoever read the output has gone); "
        "2 packets went wrong, with 5 events"
    )


def test_what_ended_without_an_event_is_not_stuck() -> None:
    names = FakeNames(function)
    names.sees_ends = False
    inner = Taking()
    sink = Only(inner, Wrong(stuck=True))
    sink.begin(FakeSource(SCHEMA, names, living={2 << 50}))
    sink.write(in_order(resting(1), resting(2), resting(3), good(4, 3000)))
    sink.flush()
    assert inner.taken == events(*resting(2))


def test_what_cannot_be_known() -> None:
    names = FakeNames(function, ends={0xE})
    recorder(Wrong(stuck=True), Taking(), names)
    names.sees_ends = False
    recorder(Wrong(dropped=True), Taking(), names)
    with pytest.raises(PwruError, match="`only`: it cannot be known what is stuck"):
        recorder(Wrong(stuck=True), Taking(), names)


def test_calls_are_handed_on() -> None:
    inner = Taking()
    sink = recorder(Wrong(dropped=True), inner)
    sink.ending()
    sink.flush()
    account: Any = Account(0, 0, 0, 0, 1 << 20)
    sink.finish(account)
    sink.close()
    assert inner.calls == ["open", "ending", "flush", "finish", "close"]
    assert inner.source is not None
    assert inner.source.schema is SCHEMA
