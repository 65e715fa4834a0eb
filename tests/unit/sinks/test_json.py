"""JSON lines: every key always there, numbers as numbers, names safe."""

from __future__ import annotations

import json
from typing import Any

from pwru.record.event import Function, Parts, Where
from pwru.sinks.json import Json
from tests.unit.records import NO_IP, addresses, decoder, meta, record, task, where


def symbolize(hit: Where) -> Function:
    return Function(f"f{hit.addr:x}", "there+0x1" if hit.location else "")


def parsed(data: bytes, parts: Parts = Parts()) -> dict[str, Any]:  # noqa: B008  (a constant)
    (line,) = Json(decoder(parts), symbolize).events(decoder(parts).records(memoryview(data))).splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_all_keys() -> None:
    assert parsed(record(where_run=where(0xA), task_run=task(cpu=0))) == {
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
    packet_run = meta() + addresses("::1", "::2", ports=(0, 53), l4=17)
    value = parsed(record(where_run=where(location=1), packet_run=packet_run), Parts(location=True))
    assert value["tuple"] == {"saddr": "::1", "daddr": "::2", "sport": 0, "dport": 53, "proto": 17}
    assert value["caller_func"] == "there+0x1"


def test_without_ip_the_tuple_is_null() -> None:
    assert parsed(record(packet_run=meta() + NO_IP))["tuple"] is None


def test_names_are_quoted() -> None:
    assert parsed(record(task_run=task(1, b'a"b\\c\x07')))["process"] == 'a"b\\c\\x07:1'


def test_only_what_was_asked_for() -> None:
    columns = {"skb", "cpu", "process", "func"}
    assert set(parsed(record(packet_run=b""), Parts(meta=False, tuple=False))) == columns
    assert set(parsed(record(packet_run=addresses()), Parts(meta=False))) == columns | {"tuple"}
