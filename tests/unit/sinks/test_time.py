"""The time of an event, in text and JSON, in each of the modes."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from pwru.sinks.json import Json
from pwru.sinks.lines import Format, LineStyle
from pwru.sinks.text import Text
from pwru.sinks.time import PACKETS, Absolute, Relative
from tests.support.records import cut, hit, record, schema, u64
from tests.support.source import FakeNames

LAST = 0xE


def output(make: type[Format], clock: str, *events: tuple[int, int, int]) -> list[str]:
    """Return the header and the lines of events: skb, address of the function, time."""
    records = [record(skb=skb, hit=hit(addr), rest=u64(at)) for skb, addr, at in events]
    form = make(schema("time"), FakeNames(ends={LAST}), LineStyle(timestamp=clock))
    return [form.header(), *form.events(cut(form.schema, *records)).splitlines()]


def column(header: str, line: str, name: str) -> str:
    """Values begin where their names do."""
    return line[header.index(name) :].split(maxsplit=1)[0]


def test_current() -> None:
    header, line = output(Text, "current", (1, 0xA, 12345678901234567))
    assert header.startswith(f"{'SKB':<18} {'CPU':<3} {'PROCESS':<16} {'TIMESTAMP':<16} {'NETNS':<10} ")
    assert line.startswith(f"{'0x1':<18} {'1':<3} {'ping:214':<16} 12345678901234567 4026531840 ")
    assert line.endswith(" fa")


def test_relative() -> None:
    """To this packet's last event, until it comes to its end; its address is another packet's then."""
    events = [(1, 0xA, 1000), (2, 0xA, 1500), (1, 0xB, 1700), (2, LAST, 1800), (2, 0xA, 2000), (1, 0xA, 2001)]
    header, *lines = output(Text, "relative", *events)
    assert [column(header, line, "TIMESTAMP") for line in lines] == ["0", "0", "700", "300", "0", "301"]


def test_relative_forgets_who_was_not_seen_for_longest() -> None:
    clock = Relative()
    for skb in range(PACKETS):
        clock(skb, 0)
    assert clock(0, 7) == 7
    assert clock(PACKETS, 8) == 0  # 1 has to go
    assert clock(0, 10) == 3
    assert clock(1, 11) == 0
    assert clock(2, 12) == 0  # it had to go for 1


def test_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    day = time.time_ns() // 10**9 * 10**9
    boot = day - 1000 * 10**9
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5 * 10**9)
    monkeypatch.setattr(time, "time_ns", lambda: boot + 5 * 10**9)
    times = [10**9 + 1_999_999, 10**9 + 999_999_999, 2 * 10**9]
    header, *lines = output(Text, "absolute", *((1, 0xA, at) for at in times))
    assert header.startswith(f"{'TIME':<23} {'SKB':<18} {'CPU':<3} {'PROCESS':<16} {'TIMESTAMP':<16} NETNS ")
    for line, at in zip(lines, times, strict=True):
        said, skb = line.split()[:2]
        assert (len(said), skb) == (23, "0x1")
        assert column(header, line, "TIMESTAMP") == f"{at}"
        assert datetime.fromisoformat(said).timestamp() == pytest.approx((boot + at) // 10**6 / 1000, abs=1e-6)


def test_absolute_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Absolute(lambda: time.time_ns() - time.monotonic_ns())
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    said = []
    for now in (10**9, 10**9 + 1, 3 * 10**9):
        monkeypatch.setattr(time, "time_ns", lambda now=now: 3600 * now)  # an hour later for each second
        said.append(datetime.fromisoformat(clock(1, now)).timestamp())
    assert said == [3601, 3601, 3 * 3600 + 3]


@pytest.mark.parametrize(("clock", "value"), [("current", 1000), ("relative", 0)])
def test_json(clock: str, value: int) -> None:
    _, line = output(Json, clock, (1, 0xA, 1000))
    assert json.loads(line)["time"] == value
    assert list(json.loads(line))[:4] == ["skb", "cpu", "process", "time"]


def test_json_absolute() -> None:
    _, line = output(Json, "absolute", (1, 0xA, time.monotonic_ns()))
    assert abs(datetime.fromisoformat(json.loads(line)["time"]).timestamp() - time.time()) < 60
