"""What only a terminal gets: colour, and lines that fit."""

from __future__ import annotations

import itertools
import os
import re

import pytest

from pwru import cli
from pwru.record.event import Function, Parts, Where
from pwru.sinks.lines import Extras, NetnsNames
from pwru.sinks.terminal import Look, look
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.unit.records import addresses, cb, decoder, meta, ns, record, task, where

ESCAPE = re.compile(r"\x1b\[\d*m")
DROP = where(0xD, 2)


def symbolize(hit: Where) -> Function:
    return Function(f"f{hit.addr:x}", "there+0x1" if hit.reason else "", bool(hit.reason))


def printed(form: Text, *data: bytes, parts: Parts = Parts()) -> list[str]:  # noqa: B008  (a constant)
    return (form.header() + form.events(decoder(parts).records(memoryview(b"".join(data))))).split("\n")[:-1]


def on(width: int, color: bool = False) -> Text:
    return Text(decoder(), symbolize, last={0xE}, extras=Extras(look=Look(color, width)))


@pytest.mark.parametrize(
    ("arguments", "environment", "is_terminal", "expected"),
    [
        ((), {"TERM": "xterm"}, True, Look(True, 80)),
        ((), {"TERM": "xterm", "NO_COLOR": ""}, True, Look(True, 80)),
        ((), {"TERM": "xterm", "NO_COLOR": "1"}, True, Look(False, 80)),
        ((), {"TERM": "dumb"}, True, Look(False, 80)),
        ((), {}, True, Look(False, 80)),
        ((), {"TERM": "xterm"}, False, Look()),
        (("--output-file", "x"), {"TERM": "xterm"}, True, Look()),
        (("--color", "never"), {"TERM": "xterm"}, True, Look(False, 80)),
        (("--color=always",), {"NO_COLOR": "1"}, False, Look(True, 0)),
    ],
)
def test_when(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    is_terminal: bool,
    expected: Look,
) -> None:
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "isatty", lambda fd: is_terminal)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((80, 24)))
    assert look(cli.options(list(arguments))) == expected


def test_color() -> None:
    """The first line of a packet is bold, what drops it red; an address that is used again is a new packet."""
    header, *lines = printed(
        on(0, color=True),
        *(record(where_run=run) for run in (where(0xA), where(0xB), DROP, where(0xE), where(0xA))),
    )
    assert header.startswith("\x1b[2mSKB ")
    assert header.endswith(" FUNC\x1b[0m")
    assert [line.startswith("\x1b[1m0xffff8f3c8192f000 ") for line in lines] == [True, False, False, False, True]
    ends = ["fa\x1b[0m", "fb\x1b[0m", "\x1b[31mfd\x1b[39m there+0x1\x1b[0m", "fe\x1b[0m", "fa\x1b[0m"]
    assert [line.partition("(icmp) ")[2] for line in lines] == ends


def test_without_color_and_width_nothing_changes() -> None:
    data = record(), record(where_run=DROP), record(packet_run=meta() + addresses("fd09::1", "fd09::2", (1, 2), 6))
    assert printed(on(0), *data) == printed(Text(decoder(), symbolize), *data)
    assert [ESCAPE.sub("", line) for line in printed(on(0, color=True), *data)] == printed(on(0), *data)


def test_80_columns() -> None:
    tcp = addresses("10.9.0.1", "10.9.0.2", (52052, 8080), 6)
    wide = meta(ifname=b"enp0s31f6", mark=0xFFFFFFFF, netns=4294967295, mtu=65536) + addresses("fd09::1", "fd09::2")
    assert printed(on(80), record(where_run=where(0xA), packet_run=meta() + tcp), record(packet_run=wide)) == [
        "SKB                CPU PROCESS     NETNS      MARK/x  IFACE   PROTO  MTU   LEN  ",
        "    TUPLE FUNC",
        "0xffff8f3c8192f000 1   ping:214    4026531840 0        v0:2   0x0800 1500  84",
        "    10.9.0.1:52052->10.9.0.2:8080(tcp) fa",
        "0xffff8f3c8192f000 1   ping:214    4294967295 ffffffff enp0s31f6:2 0x0800 65536 84",
        "    [fd09::1]:0->[fd09::2]:0(icmp)     fffffffff81000000",
    ]


def test_a_process_may_take_what_a_short_length_leaves() -> None:
    lines = printed(on(80), record(task_run=task(12345, b"python3")))
    assert "python3:12345 " in lines[2]
    assert len(lines[2]) == 79


def test_a_long_tuple_moves_no_others() -> None:
    """Where room is scarce; elsewhere the column grows."""
    long = addresses("2001:db8:1111:2222::1", "2001:db8:3333:4444::2", (65535, 65535), 6)
    lines = printed(on(80), record(packet_run=meta() + long), record())
    assert lines[-1].startswith("    10.9.0.1:0->10.9.0.2:0(icmp) f")
    (_, _, line) = printed(on(200), record(packet_run=meta() + long), record())
    assert re.search(r"\(icmp\) {20,}f", line)


def test_caller() -> None:
    """Its column moves no more than TUPLE does."""
    data = record(where_run=where(0xA)), record(where_run=DROP), record(where_run=where(0xFFFFFFFFFFFFFFFFFFFF % 2**64))
    narrow = printed(Text(decoder(), symbolize, extras=Extras(caller=True, look=Look(True, 80))), *data)
    assert narrow[1] == "    TUPLE FUNC CALLER\x1b[0m"
    assert narrow[5] == "    10.9.0.1:0->10.9.0.2:0(icmp) \x1b[31mfd\x1b[39m   there+0x1\x1b[0m"


@pytest.mark.parametrize("width", [*range(60, 170, 3), 1000])
def test_any_width(width: int) -> None:
    """Whatever columns there are, lines of usual values fit, and have what they have elsewhere."""
    usual = addresses("10.9.0.1", "10.9.0.2", (52052, 8080), 6)
    for clock, has_cb, names, has_meta in itertools.product((None, *CLOCKS), (0, 1), (0, 1), (0, 1)):
        if names and not has_meta:
            continue
        parts = Parts(meta=bool(has_meta), cb=bool(has_cb), time=bool(clock))
        packet_run = meta() * has_meta + cb(1, 2, 3, 4, 5) * has_cb + usual
        data = record(task_run=task(1234, b"nginx"), packet_run=packet_run, rest=ns(10**14) if clock else b"")
        named = NetnsNames(lambda: {4026531840: "blue"}, 16) if names else None
        clocks = [CLOCKS[clock]() if clock else None for _ in range(2)]
        forms = [
            Text(decoder(parts), symbolize, (), Extras(own_clock, named, look=look))
            for own_clock, look in zip(clocks, (Look(), Look(width=width)), strict=True)
        ]
        elsewhere, here = (printed(form, data, parts=parts) for form in forms)
        assert [line.split() for line in elsewhere] == [
            words.split() for words in "\n".join(here).replace("\n   ", "  ").split("\n")
        ]
        assert all(len(line.rstrip()) <= width for line in here), here
