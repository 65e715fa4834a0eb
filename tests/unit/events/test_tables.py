"""Tables say the same as typed events, whatever they are made of and whichever events are wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet as pq

import pwru
from pwru.errors import PwruError
from pwru.events.arrow import Batches
from pwru.events.selected import Numbering
from pwru.record.event import Event
from pwru.record.follow import OTHER, Numbers
from pwru.record.parts import Field, FlowTuple
from pwru.record.schema import Schema
from tests.support import recordings, records
from tests.support.source import FakeNames

EVENTS = recordings.events(packets=8)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "x.pwru"
    recordings.write(path, [EVENTS[:7], EVENTS[7:]])
    return path


def rows(source: pwru.Recorded, columns: list[str] | None = None) -> list[Row]:
    """Return the rows of a table without times, which Python has no type for."""
    table = source.to_arrow(columns).read_all()
    table.validate(full=True)
    listed: list[Row] = table.drop_columns([name for name in ("time",) if name in table.column_names]).to_pylist()
    return listed


def flow(t: FlowTuple | None, prefix: str = "") -> Row:
    names = ("ip_version", "saddr", "daddr", "sport", "dport", "l4_protocol", "tcp_flags", "from_sock")
    return {prefix + name: value for name, value in zip(names, t or [None] * len(names), strict=True)} | (
        {f"{prefix}l4_protocol": t.protocol, f"{prefix}tcp_flags": t.flags} if t else {}
    )


def row(event: Event, numbers: Numbers, netns: dict[int, str]) -> Row:
    """Return what a table has of a typed event."""
    meta, follow, payload = event.meta, event.follow, event.payload
    assert meta
    assert follow
    assert payload
    told = numbers.numbered(follow)
    function = event.function
    return {
        "time_ns": event.time,
        "packet": told.packet or None,
        "instance": None if told.instance == OTHER else told.instance,
        "packet_id": told.name or None,
        "skb": event.skb,
        **event.task._asdict(),
        "function": function.plain if function.drops else function.name,
        "dropped": function.drops,
        "reason": function.reason or None,
        "verdict": function.verdict or None,
        "caller": function.caller or None,
        "relation": follow.relation,
        "parent_packet": told.parent_packet or None,
        "parent_instance": None if told.parent_instance == OTHER else told.parent_instance,
        "transmission": follow.transmission or None,
        "segment": follow.segment or None,
        "tracked_by": follow.tracked_by,
        "ended": follow.ended,
        **meta._asdict(),
        "netns_name": netns.get(meta.netns),
        **flow(event.tuple),
        "payload": payload.data,
        "payload_len": payload.length,
        "payload_has_mac": payload.has_mac,
    }


FILTERS: list[Row] = [
    {},
    {"functions": "f1001|f1004"},
    {"filter": "dst port 443"},
    {"filter": "dst port 443", "follow": False},
    {"netns": "blue", "functions": "f1004"},
    {"packets": [2, 3]},
    {"comm": "client1", "follow": False},
    {"drop_reasons": "any"},
    {"span": "+0.001..+0.002"},
    {"filter": "dst port 22"},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_a_table_has_what_events_have(recording: Path, wanted: Row) -> None:
    with pwru.open(recording, **wanted) as source:
        numbers = Numbers()
        all_events = {id(event): row(event, numbers, {4026531841: "blue"}) for event in pwru.open(recording)}
        known = {(each["time_ns"], each["skb"]): each for each in all_events.values()}
        expected = [known[event.time, event.skb] for event in source]
        found = rows(source)
    assert found == expected
    assert source.account.events == len(expected)
    assert source.account.packets == (0 if wanted else 8)
    assert bool(expected) is (wanted.get("filter") != "dst port 22")


def test_dictionaries_have_only_what_is_there(recording: Path) -> None:
    table = pwru.open(recording, functions="f1004").to_arrow().read_all()
    for name in ("function", "caller", "reason"):
        assert {len(chunk.dictionary) for chunk in table.column(name).chunks} == {1}


def test_time_of_day(recording: Path) -> None:
    """In UTC; the clock of events and this one differ by what the recording says."""
    import time

    table = pwru.open(recording).to_arrow(["time", "time_ns"]).read_all()
    ahead = table.column("time").cast("int64")[0].as_py() - table.column("time_ns")[0].as_py()
    assert abs(ahead - (time.time_ns() - time.monotonic_ns())) < 600 * 10**9
    assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"


def test_chosen_columns(recording: Path) -> None:
    assert rows(pwru.open(recording), ["packet_id", "function"])[0] == {"packet_id": "#1", "function": "f1000"}
    with pytest.raises(PwruError, match="`columns`: the events have no sadr; did you mean saddr"):
        pwru.open(recording).to_arrow(["sadr"])


def test_parquet(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    source = pwru.open(recording)
    assert source.to_parquet(path) == len(EVENTS)
    assert pq.read_table(path).equals(source.to_arrow().read_all().unify_dictionaries().combine_chunks())
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(PwruError, match=r"cannot write .*: No such file or directory"):
        source.to_parquet(tmp_path / "none" / "x.parquet")


def table_of(schema: Schema, *raws: bytes, names: FakeNames | None = None) -> list[Row]:
    """Return the rows that records without times make."""
    known = names or FakeNames()
    batches = Batches(schema, lambda: known)
    numbering = Numbering(schema, Numbers())
    batch = batches.batch(numbering.all_of(records.cut(schema, *raws), 0))
    batch.validate(full=True)
    listed: list[Row] = batch.to_pylist()
    return listed


def test_relations() -> None:
    """A clone, a segment, an skb that is not of the packet, and a packet that could not be followed."""
    schema = records.schema(parts=("follow",))
    follows = [
        records.follow(7, tracked_by="FILTER"),
        records.follow(7, 8, parent=(7, 7), relation="CLONE"),
        records.follow(7, 9, segment=3, transmission=2),
        records.follow(7, 0, tracked_by="STACKID"),
        records.follow(0),
    ]
    found = table_of(schema, *(records.record(packet=b"", rest=each) for each in follows))
    assert [each["packet_id"] for each in found] == ["#1", "#1b", "#1/3", "#1~", None]
    assert [each["packet"] for each in found] == [1, 1, 1, 1, None]
    assert [each["instance"] for each in found] == [0, 1, 2, None, None]
    assert [each["relation"] for each in found] == [None, "clone", None, None, None]
    assert [(each["parent_packet"], each["parent_instance"]) for each in found[:3]] == [
        (None, None),
        (1, 0),
        (None,) * 2,
    ]
    assert [(each["transmission"], each["segment"]) for each in found[1:3]] == [(None, None), (2, 3)]
    assert found[3]["tracked_by"] == "stackid"


def test_addresses_and_what_is_unknown() -> None:
    schema = records.schema(tcp_flags=False, parts=("meta", "cb", "tuple", "tunnel"))
    cb = records.cb(1, 2, 3, 4, 5)
    v4 = records.meta() + cb + records.addresses() + records.NO_IP
    v6 = records.meta(ifindex=0, ifname=b"") + cb + records.addresses("fe80::1", "::2", (1, 2), 6) + records.addresses()
    none = records.meta() + cb + records.NO_IP + records.NO_IP
    sock = records.meta() + cb + records.addresses(from_sock=True) + records.NO_IP
    found = table_of(schema, *(records.record(packet=each) for each in (v4, v6, none, sock, v6)))
    assert [each["saddr"] for each in found] == ["10.9.0.1", "fe80::1", None, "10.9.0.1", "fe80::1"]
    assert [each["ip_version"] for each in found] == [4, 6, None, 4, 6]
    assert [each["sport"] for each in found] == [None, 1, None, None, 1]
    assert [each["from_sock"] for each in found] == [False, False, None, True, False]
    assert [each["tunnel_daddr"] for each in found] == [None, "10.9.0.2", None, None, "10.9.0.2"]
    assert [each["ifname"] for each in found] == ["v0", None, "v0", "v0", None]
    assert found[0]["cb"] == [1, 2, 3, 4, 5]
    assert "tcp_flags" not in found[0]


def test_values_stacks_and_copies() -> None:
    fields = (Field("skb->mark", False), Field("skb->priority", True))
    schema = records.schema("stack", parts=(), fields=fields, skb=8)
    stack = records.wire().layout("stack")
    rest = records.u64(3, -4) + stack.pack({"caller": 0xABC, "size": 16, "frames": [1, 2, *[0] * 62]}) + b"12345678"
    (found,) = table_of(schema, records.record(packet=b"", rest=rest))
    assert (found["skb->mark"], found["skb->priority"]) == (3, -4)
    assert found["stack"] == ["0x1", "0x2"]
    assert found["sk_buff"] == b"12345678".hex()


def test_packets_shorter_than_what_is_recorded() -> None:
    schema = records.schema(parts=(), payload=8)
    layout = records.wire().layout("payload")
    packets = [(8, b"abcdefgh"), (2, b"ab" + bytes(6)), (0, bytes(8))]
    raws = [layout.pack({"length": size, "size": size}) + data for size, data in packets]
    found = table_of(schema, *(records.record(packet=b"", rest=raw) for raw in raws))
    assert [each["payload"] for each in found] == [b"abcdefgh", b"ab", b""]
    assert [each["payload_len"] for each in found] == [8, 2, 0]


def test_names_that_change() -> None:
    """As when a module is loaded at the address of another one."""
    names = FakeNames()
    schema = records.schema(parts=())
    batches, numbering = Batches(schema, lambda: names), Numbering(schema, Numbers())
    events = records.cut(schema, records.record(packet=b"", hit=records.hit(0x1)))
    before = batches.batch(numbering.all_of(events, 0)).column("function").to_pylist()
    changed = FakeNames(lambda _: pwru.record.names.Function("other", ""))
    changed.generation = 1
    names = changed
    assert (before, batches.batch(numbering.all_of(events, 0)).column("function").to_pylist()) == (["f1"], ["other"])


def test_damage_is_told_after_all_that_precedes_it(recording: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pwru"
    cut.write_bytes(recording.read_bytes()[:-10])
    source = pwru.open(cut)
    with pytest.warns(UserWarning, match="it ends within a chunk; what precedes that was read"):
        assert len(rows(source)) == len(EVENTS)
    assert source.damage


def test_without_pyarrow(recording: Path) -> None:
    code = f"""
import sys
sys.modules["pyarrow"] = None
import pwru
try:
    pwru.open({str(recording)!r}).to_arrow()
except pwru.PwruError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out == "tables for Arrow and Parquet need the Python package pyarrow: pip install 'pwru[arrow]'\n"


def test_packets(recording: Path) -> None:
    ways = list(pwru.open(recording).packets())
    assert [(way.name, len(way.steps), way.end) for way in ways] == [(f"#{n}", 5, "dropped") for n in range(1, 9)]
