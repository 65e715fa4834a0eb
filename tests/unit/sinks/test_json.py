"""JSON lines: every key always there, numbers as numbers, names safe."""

from __future__ import annotations

import json
from typing import Any

from pwru.record.names import Function, Hit
from pwru.record.schema import Schema
from pwru.sinks.json import Json
from tests.support.records import NO_IP, addresses, cut, hit, meta, record, schema, task
from tests.support.source import FakeNames


def function(hit: Hit) -> Function:
    return Function(f"f{hit.addr:x}", "there+0x1" if hit.location else "")


def parsed(record: bytes, schema: Schema = schema()) -> dict[str, Any]:  # noqa: B008  (a constant)
    (line,) = Json(schema, FakeNames(function)).events(cut(schema, record)).splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_all_keys() -> None:
    assert parsed(record(hit=hit(0xA), task=task(cpu=0))) == {
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
    packet = meta() + addresses("::1", "::2", ports=(0, 53), l4=17)
    value = parsed(record(hit=hit(location=1), packet=packet), schema("location"))
    assert value["tuple"] == {"saddr": "::1", "daddr": "::2", "sport": 0, "dport": 53, "proto": 17}
    assert value["caller_func"] == "there+0x1"


def test_a_tuple_from_the_socket_says_so() -> None:
    for source, destination in (("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")):
        packet = meta() + addresses(source, destination, ports=(1234, 80), l4=6, from_sock=True)
        value = parsed(record(packet=packet))
        assert value["tuple_from"] == "sock"
        assert value["tuple"] == {"saddr": source, "daddr": destination, "sport": 1234, "dport": 80, "proto": 6}


def test_without_ip_the_tuple_is_null() -> None:
    assert parsed(record(packet=meta() + NO_IP))["tuple"] is None


def test_names_are_quoted() -> None:
    assert parsed(record(task=task(1, b'a"b\\c\x07')))["process"] == 'a"b\\c\\x07:1'


def test_only_what_was_asked_for() -> None:
    columns = {"skb", "cpu", "process", "func"}
    assert set(parsed(record(packet=b""), schema(parts=()))) == columns
    assert set(parsed(record(packet=addresses()), schema(parts=("tuple",)))) == columns | {"tuple"}
