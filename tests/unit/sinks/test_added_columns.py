"""Columns that flags add: text and JSON of the same record."""

from __future__ import annotations

import json

import pytest

from pwru.record.schema import Schema
from pwru.sinks.json import Json
from pwru.sinks.lines import LineStyle
from pwru.sinks.text import Text, flags_text
from tests.support.records import NO_IP, addresses, cb, cut, hit, meta, record, schema
from tests.support.source import FakeNames

ALL = schema("cb", "tunnel", tcp_flags=True)
OUTER = addresses("192.0.2.1", "192.0.2.2", ports=(47934, 4789), l4=17)
INNER = addresses("10.7.0.1", "10.7.0.2", ports=(33000, 80), l4=6, flags=0x12)
CB = cb(1, 0xABCDEF01, 0, 0, 0xFFFFFFFF)
BLUE = {4026531840: "blue"}


def text(packet: bytes, netns: dict[int, str], schema: Schema = ALL, width: int = 16) -> list[str]:
    form = Text(schema, FakeNames(netns=lambda: netns), LineStyle(netns_names=width))
    return (form.header() + form.events(cut(schema, record(packet=packet, hit=hit(0xA))))).splitlines()


def test_text() -> None:
    assert text(meta() + CB + OUTER + INNER, BLUE) == [
        "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   "
        "__sk_buff->cb[]                                             NETNS NAME    TUPLE FUNC TUNNEL",
        "0xffff8f3c8192f000 1   ping:214         4026531840 0              v0:2       0x0800 1500  84    "
        "[0x00000001,0xABCDEF01,0x00000000,0x00000000,0xFFFFFFFF]       blue       "
        "192.0.2.1:47934->192.0.2.2:4789(udp) fa 10.7.0.1:33000->10.7.0.2:80(tcp:SYN|ACK)",
    ]


def test_text_without_tunnel_and_name() -> None:
    header, line = text(meta() + CB + OUTER + NO_IP, {1: "blue"})
    assert line.endswith(f"FFFF] {'':16} 192.0.2.1:47934->192.0.2.2:4789(udp) fa")
    assert header.endswith("TUNNEL")


def test_long_names_are_cut() -> None:
    assert f" {'a-very-lo':^10} "[:-2] in text(meta() + OUTER, {4026531840: "a-very-long-name"}, schema(), 10)[1]
    assert "\\x1b" in text(meta() + OUTER, {4026531840: "\x1b"}, schema())[1]


def test_json() -> None:
    form = Json(ALL, FakeNames(netns=lambda: BLUE), LineStyle(netns_names=16))
    event = json.loads(form.events(cut(ALL, record(packet=meta() + CB + OUTER + INNER))))
    assert event["cb"] == [1, 0xABCDEF01, 0, 0, 0xFFFFFFFF]
    assert event["netns_name"] == "blue"
    assert event["tuple"]["flags"] == ""
    inner = {"saddr": "10.7.0.1", "daddr": "10.7.0.2", "sport": 33000, "dport": 80, "proto": 6, "flags": "SYN|ACK"}
    assert event["tunnel_tuple"] == inner
    event = json.loads(form.events(cut(ALL, record(packet=meta(netns=7) + CB + OUTER + NO_IP))))
    assert (event["netns_name"], event["tunnel_tuple"]) == (None, None)


@pytest.mark.parametrize(
    ("flags", "names"), [(0, ""), (1, "FIN"), (0x18, "PSH|ACK"), (0xFF, "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR")]
)
def test_flags(flags: int, names: str) -> None:
    assert flags_text(flags) == names


def test_names_that_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second they are looked up, and what was printed without them is formatted anew."""
    now = 100.0
    monkeypatch.setattr("pwru.sinks.lines.monotonic", lambda: now)
    names: dict[int, str] = {}
    form = Json(schema(), FakeNames(netns=lambda: dict(names)), LineStyle(netns_names=16))

    def said(record: bytes = record()) -> str | None:
        value: str | None = json.loads(form.events(cut(form.schema, record)))["netns_name"]
        return value

    assert said() is None
    names[4026531840] = "late"
    assert said() is None
    names[7] = "new"
    assert said(record(packet=meta(netns=7) + addresses())) == "new"  # at once: it was not there before
    assert said() is None
    now += 1.1
    assert said() == "late"
