"""Summaries as text, as JSON, and live on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from pwru.record.account import Account
from pwru.record.schema import Record
from pwru.record.summary import Summary
from pwru.sinks.stream import Stream
from pwru.sinks.summary import Summarize
from pwru.sinks.summary_json import members
from pwru.sinks.summary_text import fitting, lines
from tests.support.source import ABOUT, FakeSource
from tests.support.ways import MS, NAMES, SCHEMA, dropped, good, in_order, resting, ways

DESCRIBED = json.loads((Path(__file__).parents[3] / "docs/summary.schema.json").read_text())
ACCOUNT = Account(0, 0, 0, 0, 4 << 20)


def summary(received: int = 300, lost: int = 0) -> Summary:
    of = Summary(SCHEMA, NAMES, lambda _skb, _instance: None)
    of.add(ways(*(good(number + 10, number, length=2 + number % 7) for number in range(received))))
    of.add(ways(dropped(5), dropped(6), resting(7)))
    of.begun, of.now = received + 3, 10**9
    of.lost = lost
    return of


def printed(records: list[Record], *, as_json: bool = False, source: FakeSource | None = None) -> str:
    reading, writing = os.pipe()
    sink = Summarize(Stream(writing), json=as_json)
    sink.open()
    sink.begin(source or FakeSource(SCHEMA, NAMES))
    assert sink.write(records) == 0
    assert (sink.events, sink.tick) == (len(records), None)
    sink.ending()
    sink.flush()
    sink.finish(ACCOUNT)
    sink.close()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_text() -> None:
    text = printed(in_order(good(1), good(2), dropped(3), resting(4)))
    text, _, waiting = text.partition("\nSTILL ON THEIR WAY\n")
    assert text.splitlines() == [
        "4 packets in 3.00 ms, 1 dropped, 1 on their way",
        "",
        "DROPS",
        "COUNT  REASON     IN      IFACE  NETNS       PROCESS",
        "    1  NO_SOCKET  ip_rcv  v0:2   4026531840  ping",
        "",
        "WAYS",
        "COUNT  SHARE      P50      P99      MAX  SPREAD  PACKET  WAY",
        "    2  50.0%  3.00 ms  3.00 ms  3.00 ms          #1      ip_output … tcp_v4_rcv (4 steps)",
        "    1  25.0%  2.00 ms  2.00 ms  2.00 ms          #3      ip_output … ip_rcv, dropped: NO_SOCKET (4 steps)",
        "    1  25.0%  1.00 ms  1.00 ms  1.00 ms          #4      ip_output … ip_rcv, not ended (2 steps)",
        "",
        "STAGES",
        "COUNT  SHARE      P50      P99      MAX  SPREAD  STAGE",
        "    4  55.6%  1.00 ms  2.00 ms  2.00 ms          IP in",
        "    4  44.4%  1.00 ms  1.00 ms  1.00 ms          IP out",
        "    2   0.0%     0 ns     0 ns     0 ns          TCP receive",
        "    2   0.0%     0 ns     0 ns     0 ns          released",
        "    1   0.0%     0 ns     0 ns     0 ns          dropped NO_SOCKET",
        "",
        "WHERE THE TIME GOES",
        "COUNT  SHARE      P50      P99      MAX  SPREAD  FROM                         TO",
        "    4  44.4%  1.00 ms  1.00 ms  1.00 ms          ip_output                    ip_rcv",
        "    2  44.4%  2.00 ms  2.00 ms  2.00 ms          ip_rcv                       tcp_v4_rcv",
        "    1  11.1%  1.00 ms  1.00 ms  1.00 ms          ip_rcv                       kfree_skb_reason(NO_SOCKET)",
        "    2   0.0%     0 ns     0 ns     0 ns          tcp_v4_rcv                   skb_release_head_state",
        "    1   0.0%     0 ns     0 ns     0 ns          kfree_skb_reason(NO_SOCKET)  skb_release_head_state",
    ]
    assert waiting.splitlines()[0] == "PACKET  NOT SEEN FOR  LAST IN"
    assert waiting.splitlines()[1].split()[0::3] == ["#4", "ip_rcv"]


@pytest.mark.parametrize(("trace", "waited"), [("", 5000), ("a recording", 1000)])
def test_for_how_long_it_waits(monkeypatch: pytest.MonkeyPatch, trace: str, waited: int) -> None:
    """A live trace knows, however late events were read; of a recording, the last event is now."""
    monkeypatch.setattr("time.monotonic_ns", lambda: 5002 * MS)
    source = FakeSource(SCHEMA, NAMES, about=ABOUT._replace(trace=trace))
    found = json.loads(printed(in_order(resting(1), good(2, 999)), as_json=True, source=source))
    assert found["waiting"] == [{"packet": "#1", "place": "ip_rcv", "not_seen_for": waited * MS}]


def test_nothing_came() -> None:
    assert printed([]) == "0 packets in 0 ns, 0 dropped\n"


@pytest.mark.parametrize("records", [[], in_order(good(1), good(2), dropped(3), resting(4))], ids=["none", "some"])
def test_json_is_as_described(records: list[Record]) -> None:
    (line,) = printed(records, as_json=True).splitlines()
    jsonschema.validate(json.loads(line), DESCRIBED)


def test_json_has_all_of_it() -> None:
    found = members(summary())
    jsonschema.validate(json.loads(json.dumps(found)), DESCRIBED)
    text = json.dumps(DESCRIBED)
    assert all(f'"{name}"' in text for name in found)
    assert found["packets"] == 303
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "more": 1}, DESCRIBED)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 149, 150, 200])
def test_text_fits(width: int) -> None:
    made = lines(summary(), width)
    assert max(map(len, made)) <= width
    ways = made[made.index(next(line for line in made if line.startswith("WAYS"))) :]
    assert ("WAY" in ways[1].split()) == (width >= 150)
    if width >= 60:
        assert any("dropped: NO_SOCKET (4 steps)" in line for line in made)
    assert "WAYS (P50 and P99 of many: within 1.6 %)"[:width] in made


@pytest.mark.parametrize("height", [3, 15, 24, 30, 100])
def test_a_low_terminal_has_less_of_all(height: int) -> None:
    made = fitting(summary(), 80, height)
    assert len(made) <= height
    assert ("STILL ON THEIR WAY" in made) == (height >= 24)
    assert any(line.startswith("WHERE THE TIME GOES") for line in made) == (height >= 30)
    assert any(line.endswith(" more") for line in made) == (15 <= height <= 30)


def test_what_was_lost_is_said() -> None:
    assert lines(summary(1, lost=3), 0)[1] == "3 events were lost: counts are too low, and some ways lack functions"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def screen(output: str) -> list[str]:
    """Return what a terminal shows after output without line breaks of its own."""
    shown, row, rest = [""] * 100, 0, output
    for old in ("\x1b[?2026h", "\x1b[?2026l", "\r"):
        rest = rest.replace(old, "")
    while rest:
        if rest.startswith("\n"):
            row, rest = row + 1, rest[1:]
        elif rest.startswith("\x1b[K"):
            rest = rest[3:]
        elif rest.startswith("\x1b[J"):
            shown[row:] = [""] * (100 - row)
            rest = rest[3:]
        elif rest.startswith("\x1b["):
            up, _, rest = rest[2:].partition("A")
            row -= int(up)
        else:
            end = next((at for at, letter in enumerate(rest) if letter in "\n\x1b"), len(rest))
            shown[row], rest = rest[:end], rest[end:]
    return "\n".join(shown).rstrip().split("\n")


def test_live(terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture takes the place of the last one, and the whole summary that of all."""
    ours, theirs = terminal
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    sink = Summarize(Stream(theirs), live=True)
    assert sink.tick == 1
    sink.open()
    sink.begin(FakeSource(SCHEMA, NAMES))
    output = ""
    for number in range(4):
        clock += 1
        assert sink.write(in_order(good(2 * number + 1, 200 * number), dropped(2 * number + 2, 200 * number))) == 0
        output += os.read(ours, 1 << 16).decode()
        shown = screen(output)
        assert shown[0].startswith(f"{2 * number + 2} packets in ")
        assert len(shown) <= 23
    sink.write(in_order(good(99, 900)))  # not due
    sink.idle()
    output += os.read(ours, 1 << 16).decode()
    assert output.count("\x1b[?2026h") == 5
    sink.ending()
    sink.flush()
    sink.finish(ACCOUNT)
    shown = screen(output + os.read(ours, 1 << 16).decode())
    assert shown[0].startswith("9 packets in ")
    assert sum(line.startswith("WAYS") for line in shown) == 1
