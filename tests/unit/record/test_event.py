"""Decoding: the layout of the built object against records written by hand."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.kernel.btf import read_btf
from pwru.record.event import Meta, Packet, Parts, Task, Tuple, Where, pack
from tests.unit.records import NO_IP, OBJECT, addresses, cb, decoder, meta, ns, record, task, where


def test_a_record() -> None:
    data = record(skb=0xFFFF888000001234)
    assert decoder().records(memoryview(data)) == [(0xFFFF888000001234, task(), where(), meta() + addresses())]
    assert decoder().record_size == len(data)


@pytest.mark.parametrize("has_location", [False, True])
@pytest.mark.parametrize("has_meta", [False, True])
@pytest.mark.parametrize("has_tuple", [False, True])
def test_a_record_has_the_parts_that_were_asked_for(has_meta: bool, has_tuple: bool, has_location: bool) -> None:
    parts = decoder(Parts(has_meta, has_tuple, has_location))
    where_run = where(1, 2, 3 if has_location else None)
    packet_run = meta(mark=7) * has_meta + addresses("10.9.0.7") * has_tuple
    data = record(where_run=where_run, packet_run=packet_run)
    assert parts.record_size == len(data)
    assert parts.records(memoryview(data)) == [(0xFFFF8F3C8192F000, task(), where_run, packet_run)]
    assert parts.where(where_run) == Where(1, 2, 3 * has_location)
    found = parts.packet(packet_run)
    assert (found.meta and found.meta.mark) == (7 if has_meta else None)
    assert (found.tuple and found.tuple.saddr) == ("10.9.0.7" if has_tuple else None)
    layout = parts.layout
    assert layout["record_size"] == len(data) - 8
    at = len(data) - 8
    for has, name, size in ((has_tuple, "tuple_at", 40), (has_meta, "meta_at", 40), (has_location, "location_at", 8)):
        at -= size * has
        assert layout[name] == at * has


@pytest.mark.parametrize("has_tuple", [False, True])
def test_a_record_with_its_time(has_tuple: bool) -> None:
    parts = decoder(Parts(meta=False, tuple=has_tuple, time=True))
    data = record(packet_run=addresses() * has_tuple, rest=ns(1234567890123))
    assert parts.layout["time_at"] == len(data) - 16
    packet_run = addresses() * has_tuple
    assert (
        parts.records(memoryview(data * 2))
        == [(0xFFFF8F3C8192F000, task(), where(), packet_run, 1234567890123, b"")] * 2
    )


def test_control_block_and_tunnel() -> None:
    parts = decoder(Parts(cb=True, tcp_flags=True, tunnel=True))
    inner = addresses("fd00::1", "fd00::2", ports=(1, 2), l4=6, flags=0x12)
    packet_run = meta(mark=7) + cb(1, 2, 3, 4, 0xFFFFFFFF) + addresses("10.9.0.7") + inner
    ((*_, found, time, rest),) = parts.records(memoryview(record(packet_run=packet_run)))
    assert (found, time, rest) == (packet_run, b"", b"")
    packet = parts.packet(packet_run)
    assert packet.cb == [1, 2, 3, 4, 0xFFFFFFFF]
    assert packet.tuple
    assert packet.tuple.saddr == "10.9.0.7"
    assert packet.tunnel == Tuple(6, "fd00::1", "fd00::2", 1, 2, 6, 0x12)
    assert parts.packet(packet_run[: -len(inner)] + NO_IP).tunnel is None


def test_records_end_at_one_that_is_being_written() -> None:
    data = record(skb=0) + record(skb=1) + record(skb=2, busy=True) + record(skb=3)
    assert [r[0] for r in decoder().records(memoryview(data))] == [0, 1]


def test_a_record_that_is_cut_off_waits() -> None:
    data = record(skb=0) + record(skb=1)[:-8]
    assert [r[0] for r in decoder().records(memoryview(data))] == [0]
    assert decoder().records(memoryview(b"")) == []


def test_task() -> None:
    assert decoder().task(task(7, b"nginx: worker", cpu=3)) == Task(3, 7, "nginx: worker")


@pytest.mark.parametrize(
    ("comm", "printed"),
    [
        (b"evil\x1b[2J", "evil\\x1b[2J"),
        (b"new\nline", "new\\x0aline"),
        (b"caf\xc3\xa9", "café"),
        (b"broken\xff", "broken\\xff"),
        (b"fifteen-chars-x", "fifteen-chars-x"),
        (b"sixteen-chars-xy", "sixteen-chars-xy"),
        (b"", ""),
    ],
)
def test_names_are_safe_to_print(comm: bytes, printed: str) -> None:
    assert decoder().task(task(1, comm)).comm == printed


def test_packet_ipv4() -> None:
    assert decoder().packet(meta(mark=0xAB) + addresses(ports=(1234, 80), l4=6)) == Packet(
        Meta(4026531840, 0xAB, 2, "v0", 1500, 84, 0x0800), Tuple(4, "10.9.0.1", "10.9.0.2", 1234, 80, 6)
    )


def test_packet_ipv6() -> None:
    run = meta(protocol=0x86DD) + addresses("fd00::1", "::", ports=(0, 65535), l4=17)
    assert decoder().packet(run).tuple == Tuple(6, "fd00::1", "::", 0, 65535, 17)


def test_packet_without_ip() -> None:
    assert decoder().packet(meta(protocol=0x0806) + NO_IP).tuple is None


def test_config_is_packed_by_name() -> None:
    btf = read_btf(OBJECT)
    names = (
        "netns",
        "ifindex",
        "mark",
        "mark_mask",
        "pid",
        "comm",
        "reasons",
        "filters",
        "tries",
        "ip_is_entry",
        "tcp_flags",
        "trace_run_size",
        "trace_run",
    )
    values: dict[str, int | bytes] = dict.fromkeys((*names, *decoder().layout), 0)
    values.update((name, number) for number, name in enumerate(values))
    values |= {"comm": b"comm".ljust(16, b"\0"), "reasons": bytes(range(32))}
    expected = b"".join(
        v if isinstance(v, bytes) else v.to_bytes(8 if name == "trace_run" else 4, "little")
        for name, v in values.items()
    )
    assert pack(btf, "config", values) == expected + bytes(-len(expected) % 8)
    with pytest.raises(PwruError, match="does not belong to this version"):
        pack(btf, "config", {"netns": 1})
