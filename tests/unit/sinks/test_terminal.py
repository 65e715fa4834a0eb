"""What only a terminal gets: colour, and lines that fit."""

from __future__ import annotations

import itertools
import os
import re
import time

import pytest

from pwru.record.names import Function, Hit
from pwru.sinks.lines import LineStyle
from pwru.sinks.terminal import Terminal, terminal
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.support.records import addresses, cb, cut, hit, meta, record, schema, task, u64
from tests.support.source import FakeNames

ESCAPE = re.compile(r"\x1b\[\d*m")
DROP = hit(0xD, 2)


def function(hit: Hit) -> Function:
    return Function(f"f{hit.addr:x}", "there+0x1" if hit.reason else "", bool(hit.reason))


def printed(form: Text, *records: bytes) -> list[str]:
    return (form.header() + form.events(cut(form.schema, *records))).split("\n")[:-1]


def on(width: int, color: bool = False, *, caller: bool = False) -> Text:
    style = LineStyle(caller=caller, color=color, width=width)
    return Text(schema(), FakeNames(function, ends={0xE}), style)


@pytest.mark.parametrize(
    ("color", "environment", "is_terminal", "expected"),
    [
        ("auto", {"TERM": "xterm"}, True, Terminal(True, 80)),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, True, Terminal(True, 80)),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, True, Terminal(False, 80)),
        ("auto", {"TERM": "dumb"}, True, Terminal(False, 80)),
        ("auto", {}, True, Terminal(False, 80)),
        ("auto", {"TERM": "xterm"}, False, Terminal()),
        ("auto", {"TERM": "xterm"}, None, Terminal()),
        ("never", {"TERM": "xterm"}, True, Terminal(False, 80)),
        ("always", {"NO_COLOR": "1"}, False, Terminal(True, 0)),
    ],
)
def test_when(
    monkeypatch: pytest.MonkeyPatch,
    color: str,
    environment: dict[str, str],
    is_terminal: bool | None,
    expected: Terminal,
) -> None:
    """`is_terminal` is None where there is no descriptor: for an output file."""
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "isatty", lambda fd: is_terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((80, 24)))
    assert terminal(None if is_terminal is None else 1, color) == expected


def test_color() -> None:
    """The first line of a packet is bold, what drops it red; an address that is used again is a new packet."""
    header, *lines = printed(
        on(0, color=True),
        *(record(hit=run) for run in (hit(0xA), hit(0xB), DROP, hit(0xE), hit(0xA))),
    )
    assert header.startswith("\x1b[2mSKB ")
    assert header.endswith(" FUNC\x1b[0m")
    assert [line.startswith("\x1b[1m0xffff8f3c8192f000 ") for line in lines] == [True, False, False, False, True]
    ends = ["fa\x1b[0m", "fb\x1b[0m", "\x1b[31mfd\x1b[39m there+0x1\x1b[0m", "fe\x1b[0m", "fa\x1b[0m"]
    assert [line.partition("(icmp) ")[2] for line in lines] == ends


def test_without_color_and_width_nothing_changes() -> None:
    data = record(), record(hit=DROP), record(packet=meta() + addresses("fd09::1", "fd09::2", (1, 2), 6))
    assert printed(on(0), *data) == printed(Text(schema(), FakeNames(function)), *data)
    assert [ESCAPE.sub("", line) for line in printed(on(0, color=True), *data)] == printed(on(0), *data)


def test_80_columns() -> None:
    tcp = addresses("10.9.0.1", "10.9.0.2", (52052, 8080), 6)
    wide = meta(ifname=b"enp0s31f6", mark=0xFFFFFFFF, netns=4294967295, mtu=65536) + addresses("fd09::1", "fd09::2")
    assert printed(on(80), record(hit=hit(0xA), packet=meta() + tcp), record(packet=wide)) == [
        "SKB                CPU PROCESS     NETNS      MARK/x  IFACE   PROTO  MTU   LEN  ",
        "    TUPLE FUNC",
        "0xffff8f3c8192f000 1   ping:214    4026531840 0        v0:2   0x0800 1500  84",
        "    10.9.0.1:52052->10.9.0.2:8080(tcp) fa",
        "0xffff8f3c8192f000 1   ping:214    4294967295 ffffffff enp0s31f6:2 0x0800 65536 84",
        "    [fd09::1]:0->[fd09::2]:0(icmp)     fffffffff81000000",
    ]


def test_a_process_may_take_what_a_short_length_leaves() -> None:
    lines = printed(on(80), record(task=task(12345, b"python3")))
    assert "python3:12345 " in lines[2]
    assert len(lines[2]) == 79


def test_a_long_tuple_moves_no_others() -> None:
    """Where room is scarce; elsewhere the column grows."""
    long = addresses("2001:db8:1111:2222::1", "2001:db8:3333:4444::2", (65535, 65535), 6)
    lines = printed(on(80), record(packet=meta() + long), record())
    assert lines[-1].startswith("    10.9.0.1:0->10.9.0.2:0(icmp) f")
    (_, _, line) = printed(on(200), record(packet=meta() + long), record())
    assert re.search(r"\(icmp\) {20,}f", line)


def test_caller() -> None:
    """Its column moves no more than TUPLE does."""
    data = record(hit=hit(0xA)), record(hit=DROP), record(hit=hit(0xFFFFFFFFFFFFFFFFFFFF % 2**64))
    narrow = printed(on(80, True, caller=True), *data)
    assert narrow[1] == "    TUPLE FUNC CALLER\x1b[0m"
    assert narrow[5] == "    10.9.0.1:0->10.9.0.2:0(icmp) \x1b[31mfd\x1b[39m   there+0x1\x1b[0m"


@pytest.mark.parametrize("width", [*range(60, 170, 3), 1000])
def test_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever columns there are, lines of usual values fit, and have what they have elsewhere."""
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 10**14)
    usual = addresses("10.9.0.1", "10.9.0.2", (52052, 8080), 6)
    for clock, has_cb, names, has_meta in itertools.product((None, *CLOCKS), (0, 1), (0, 1), (0, 1)):
        if names and not has_meta:
            continue
        of = schema(*["cb"] * has_cb, *["time"] * bool(clock), parts=(*["meta"] * has_meta, "tuple"))
        packet = meta() * has_meta + cb(1, 2, 3, 4, 5) * has_cb + usual
        data = record(task=task(1234, b"nginx"), packet=packet, rest=u64(10**14) if clock else b"")
        fake = FakeNames(function, netns=lambda: {4026531840: "blue"})
        style = LineStyle(timestamp=clock or "none", netns_names=16 * names)
        elsewhere, here = (printed(Text(of, fake, style._replace(width=w)), data) for w in (0, width))
        assert [line.split() for line in elsewhere] == [
            words.split() for words in "\n".join(here).replace("\n   ", "  ").split("\n")
        ]
        assert all(len(line.rstrip()) <= width for line in here), here
