"""Packets as blocks of text, in stages, and as JSON: what is in them, when they are written, and who takes them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pwru.record.account import Account
from pwru.record.names import Function, Hit
from pwru.record.schema import Record
from pwru.sinks.blocks import Blocks, duration
from pwru.sinks.group import Form, Group
from pwru.sinks.lines import LineStyle
from pwru.sinks.packet_json import PacketJson
from pwru.sinks.staged import StagedBlocks
from pwru.sinks.stream import Stream
from tests.support.records import NO_IP, addresses, cut, follow, hit, meta, record, schema, task, u64
from tests.support.source import FakeNames, FakeSource

SCHEMA = schema("follow", "time", "location", tcp_flags=True)
A, B = 3 << 60, 1 << 50
FUNCTIONS = [
    "udp_send_skb", "ip_output", "nf_hook_slow", "dev_hard_start_xmit", "ip_rcv", "udp_rcv", "skb_consume_udp",
    "kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)", "skb_release_head_state", "kfree_skbmem", "skb_clone",
]  # fmt: skip
SEND, OUT, HOOK, DRIVER, IN, RECEIVE, READ, DROP, END, AFTER, CLONE = range(len(FUNCTIONS))
SYN = addresses(ports=(40000, 80), l4=6, flags=2)
NAT = addresses("192.0.2.1", "10.9.0.2", ports=(5, 80), l4=6, flags=2)
CURL, IDLE = task(4711, b"curl", 0), task(0, b"swapper/1", 1)
LEFT, RIGHT = meta(netns=7, length=60), meta(netns=8, ifname=b"v1", ifindex=3, length=60)


def function(hit: Hit) -> Function:
    return Function(FUNCTIONS[hit.addr], "udp_rcv" if hit.location else "", drops=hit.addr == DROP)


NAMES = FakeNames(function, ends={END}, after_ends={AFTER}, netns=lambda: {8: "right"})


def event(time: int, at: int, told: bytes, packet: bytes = LEFT + SYN, by: bytes = CURL, *, caller: int = 0) -> bytes:
    return record(task=by, hit=hit(at, 0, caller), packet=packet, rest=told + u64(time * 1000))


DROPPED = (
    event(0, SEND, follow(A), meta(netns=7, ifindex=0, ifname=b"", length=40, protocol=0) + NO_IP),
    event(12, OUT, follow(A)),
    event(312, DRIVER, follow(A), meta(netns=7, length=74, mark=0x20) + SYN),
    event(320, IN, follow(A), RIGHT + NAT, IDLE),
    event(800, DROP, follow(A), RIGHT + NAT, IDLE, caller=1),
    event(801, END, follow(A, ended=True), RIGHT + NAT, IDLE),
)


class Written:
    """A sink whose output can be read."""

    def __init__(self, path: Path, form: type[Form] = Blocks, **style: Any) -> None:
        self.path = path
        path.touch()
        self._fd = os.open(path, os.O_WRONLY)
        self.sink = Group(form, Stream(self._fd), LineStyle(**style))
        self.sink.open()
        self.sink.begin(FakeSource(SCHEMA, NAMES))

    def write(self, *events: bytes) -> Written:
        assert self.sink.write(cut(SCHEMA, *events)) == 0
        return self

    def text(self) -> str:
        return self.path.read_text()

    def finished(self) -> str:
        self.sink.flush()
        os.close(self._fd)
        return self.text()


def block(path: Path, *events: bytes, form: type[Form] = Blocks, **style: Any) -> list[str]:
    return Written(path, form, **style).write(*events).finished().splitlines()


def test_a_block(path: Path) -> None:
    assert block(path, *DROPPED) == [
        "#1 10.9.0.1:40000 → 10.9.0.2:80 tcp SYN, curl:4711, 801.0 µs, DROPPED NO_SOCKET in udp_rcv",
        "             ▸ netns 7",
        "               udp_send_skb  len 40",
        "             ▸ v0",
        "    12.0 µs    ip_output  len 60",
        "   300.0 µs    dev_hard_start_xmit  len 74  mark 0x20",
        "             ▸ netns 8 (right) v1",
        "     8.0 µs    ip_rcv  len 60  mark 0x0  192.0.2.1:5 → 10.9.0.2:80 tcp  swapper/1:0  cpu 1",
        "   480.0 µs    kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)",
        "     1.0 µs    skb_release_head_state",
        "",
    ]


def test_on_a_narrow_terminal(path: Path) -> None:
    """No line is longer, whatever its colours, and nothing is cut off."""
    wide = block(path, *DROPPED, color=True, width=200)
    narrow = block(path, *DROPPED, color=True, width=60)
    plain = [re.sub("\x1b\\[[0-9]+m", "", line) for line in narrow]
    assert max(map(len, plain)) <= 60
    assert plain[:2] == [
        "#1 10.9.0.1:40000 → 10.9.0.2:80 tcp SYN, curl:4711,",
        "    801.0 µs, DROPPED NO_SOCKET in udp_rcv",
    ]
    assert re.sub(r"\s+", "", "".join(narrow)) == re.sub(r"\s+", "", "".join(wide))
    assert "\x1b[31mDROPPED\x1b[39m" in narrow[1]
    assert "\x1b[1m   300.0 µs\x1b[0m" in "".join(narrow)  # takes long
    assert "\x1b[2m    12.0 µs\x1b[0m" in "".join(narrow)


def test_clones_are_below(path: Path) -> None:
    clone = follow(A, 2, relation="CLONE", parent=(A, A))
    lines = block(
        path,
        event(0, SEND, follow(A, transmission=2)),
        event(10, CLONE, follow(A, transmission=2)),
        event(20, OUT, clone),
        event(25, READ, follow(A, 2)),
        event(30, END, follow(A, 2, ended=True), caller=1),
        event(40, END, follow(A, ended=True)),
    )
    assert (
        lines[0] == "#1 10.9.0.1:40000 → 10.9.0.2:80 tcp SYN, curl:4711, 40.0 µs, sent 2 times, delivered to curl:4711"
    )
    assert lines[1:] == [
        "             ▸ netns 7 v0",
        "               udp_send_skb  len 60",
        "    10.0 µs    skb_clone",
        "    30.0 µs    skb_release_head_state",
        "  └ #1b clone of #1, after 20.0 µs, ended in ip_output",
        "             ▸ netns 7 v0",
        "               ip_output  len 60",
        "     5.0 µs    skb_consume_udp",
        "     5.0 µs    skb_release_head_state",
        "",
    ]


def test_how_packets_end(path: Path) -> None:
    """The headline says it."""
    lines = block(
        path,
        event(0, IN, follow(B)),
        event(1, IN, follow(A), LEFT + NO_IP),
        event(2, IN, follow(A, relation="MERGED", parent=(B, B)), LEFT + NO_IP),
        event(3, END, follow(A, ended=True), LEFT + NO_IP),
        event(4, IN, follow(), meta(protocol=0x88B5) + NO_IP),
        event(900, IN, follow(B)),
    )
    assert [line for line in lines if line.startswith("#")] == [
        "#1 10.9.0.1:40000 → 10.9.0.2:80 tcp SYN, curl:4711, 900.0 µs, last in ip_rcv (still on its way)",
        "#2 ip, curl:4711, 2.0 µs, merged into #1",
        "#? protocol 0x88b5, curl:4711, 0.0 µs, last in ip_rcv (still on its way)",
    ]
    assert "     1.0 µs    ip_rcv  merged into #1" in lines


def test_stages(path: Path) -> None:
    hooked = (*DROPPED[:2], event(20, HOOK, follow(A)), *DROPPED[2:])
    assert block(path, *hooked, form=StagedBlocks)[1:] == [
        "             ▸ netns 7",
        "    12.0 µs    UDP send                  udp_send_skb",
        "             ▸ v0",
        "     8.0 µs    IP out                    ip_output",
        "   292.0 µs    netfilter POSTROUTING     nf_hook_slow",
        "     8.0 µs    driver                    dev_hard_start_xmit  mark 0x20",
        "             ▸ netns 8 (right) v1",
        "   480.0 µs    IP in                     ip_rcv  mark 0x0  192.0.2.1:5 → 10.9.0.2:80 tcp  swapper/1:0",
        "     1.0 µs    DROPPED NO_SOCKET in udp_rcv",
        "",
    ]
    narrow = block(path, *hooked, form=StagedBlocks, width=48)
    assert "     8.0 µs    IP out" in narrow


def test_json(path: Path) -> None:
    clone = follow(A, 2, relation="CLONE", parent=(A, A))
    text = Written(path, PacketJson).write(*DROPPED, event(802, OUT, clone), event(803, IN, follow())).finished()
    packet, other = map(json.loads, text.splitlines())
    events = packet.pop("events")
    first, second = packet.pop("skbs")
    assert packet == {"packet": 1, "continues": False, "end": "dropped", "begin": 0, "duration": 802_000}
    stages = first.pop("stages")
    drop = {"end": "dropped", "place": "udp_rcv", "reason": "NO_SOCKET"}
    assert first == {"instance": 0, "skb": "0xffff8f3c8192f000", **drop}
    assert stages[-1] == {"stage": "dropped", "detail": "NO_SOCKET", "ns": 1000, "events": 2}
    assert (second["instance"], second["relation"], second["parent"]) == (1, "clone", {"packet": 1, "instance": 0})
    assert second["end"] is None
    assert [event["time"] for event in events] == [0, 12_000, 312_000, 320_000, 800_000, 801_000, 802_000]
    assert events[1]["tuple"]["flags"] == "SYN"
    assert events[-1]["parent"] == {"packet": 1, "instance": 0}
    assert (other["packet"], other["events"][0]["packet"]) == (None, None)


def test_a_packet_is_written_once_it_is_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no other event comes; and if it is not seen for a while, by the clock of its events."""
    now = 10**15
    monkeypatch.setattr("pwru.sinks.time.time.monotonic_ns", lambda: now)
    written = Written(path)
    written.sink.idle()
    written.write(*DROPPED[:3])
    now += 400_000_000
    written.sink.idle()
    assert written.text() == ""
    now += 1_000_000_000
    written.sink.idle()
    assert "last in dev_hard_start_xmit (not seen since)" in written.text()
    written.write(*DROPPED[3:])
    now += 60_000_000
    written.sink.idle()
    assert "#1 goes on: 192.0.2.1:5 → 10.9.0.2:80 tcp SYN, swapper/1:0, 481.0 µs, DROPPED" in written.text()
    assert (written.sink.events, written.sink.packets, written.sink.not_followed) == (6, 1, 0)


def test_what_nobody_reads_is_given_up() -> None:
    reader, writer = os.pipe()
    sink = Group(Blocks, Stream(writer), LineStyle())
    sink.open()
    sink.begin(FakeSource(SCHEMA, NAMES))
    records: Sequence[Record] = cut(SCHEMA, *DROPPED, event(99_999, IN, follow(B)))
    os.close(reader)
    assert sink.write(list(records)) == 6
    assert sink.events == 1
    sink.flush()
    assert sink.events == 0
    sink.close()
    os.close(writer)


def test_the_account(path: Path) -> None:
    account = Account(6, 0, 0, 0, 1 << 20, events=6, packets=1)
    assert Written(path).sink.account(account) == account.text()
    assert json.loads(Written(path, PacketJson).sink.account(account))["events"] == 6


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0.0 µs"), (999, "1.0 µs"), (999_949, "999.9 µs"), (1_000_000, "1.00 ms"), (12_345_678_901, "12.35 s")],
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text
