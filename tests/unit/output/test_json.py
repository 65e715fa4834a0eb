"""JSON lines: every key always there, numbers as numbers, names safe."""

from __future__ import annotations

import json
from typing import Any

from pwru.event import Function
from pwru.output.json import Json

from ..records import decoder, packet, process, record


def symbolize(addr: int, _reason: int, location: int) -> Function:
    return Function(f"f{addr:x}", "there+0x1" if location else "")


def parsed(data: bytes) -> dict[str, Any]:
    (line,) = Json(decoder(), symbolize).events(decoder().records(memoryview(data))).splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_all_keys() -> None:
    assert parsed(record(addr=0xA, cpu=0)) == {
        "skb": "0xffff8f3c8192f000",
        "cpu": 0,
        "process": "ping:214",
        "func": "fa",
        "netns": 4026531840,
        "mark": 0,
        "iface": "v0:2",
        "proto": 0x0800,
        "mtu": 1500,
        "len": 84,
        "tuple": {"saddr": "10.9.0.1", "daddr": "10.9.0.2", "sport": None, "dport": None, "proto": 1},
    }


def test_ports_and_location() -> None:
    value = parsed(record(location=1, packet_run=packet(ports=(0, 53), l4=17, source="::1", destination="::2")))
    assert value["tuple"] == {"saddr": "::1", "daddr": "::2", "sport": 0, "dport": 53, "proto": 17}
    assert value["caller_func"] == "there+0x1"


def test_without_ip_the_tuple_is_null() -> None:
    assert parsed(record(packet_run=packet(source="", destination="")))["tuple"] is None


def test_names_are_quoted() -> None:
    assert parsed(record(process_run=process(1, b'a"b\\c\x07')))["process"] == 'a"b\\c\\x07:1'
