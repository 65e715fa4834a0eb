"""The user side of the ring buffer: complete records, and a mapping that goes with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pwru import libbpf
from pwru.libbpf.ringbuf import Records, RingBuffer
from tests.support.records import OBJECT, in_ring, record, schema

SIZE = 64 << 10


def complete(data: bytes) -> list[int]:
    """Return the skbs of the complete records."""
    return [fields[0] for fields in Records(schema().format).complete(memoryview(data))]


def test_records_end_at_one_that_is_being_written() -> None:
    rest = in_ring(record(skb=2), busy=True) + in_ring(record(skb=3))
    assert complete(in_ring(record(skb=0)) + in_ring(record(skb=1)) + rest) == [0, 1]


def test_a_record_that_is_cut_off_waits() -> None:
    assert complete(in_ring(record(skb=0)) + in_ring(record(skb=1))[:-8]) == [0]
    assert complete(b"") == []


def test_all_fields_of_a_record() -> None:
    data = memoryview(in_ring(record()))
    ((skb, *_, packet, follow, time, details),) = Records(schema().format).complete(data)
    assert (skb, packet, follow, time, details) == (0xFFFF8F3C8192F000, record()[48:], b"", b"", b"")
    assert Records(schema().format).size == len(data)


def descriptors() -> dict[str, str]:
    paths = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            paths[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue  # the one that lists them
    return paths


def mappings() -> list[str]:
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "bpf-map" in line or "bpf_ringbuf" in line]


@pytest.fixture
def events() -> Iterator[libbpf.Map]:
    """The map of events of an object that was loaded without a program to attach."""
    try:
        bpf = libbpf.Object(OBJECT.read_bytes(), "test")
    except libbpf.BpfError as error:
        pytest.skip(f"no BPF here: {error}")
    try:
        for program in bpf.programs():
            program.set_autoload(False)
        bpf.map("events").set_max_entries(SIZE)
        try:
            bpf.load()
        except libbpf.BpfError as error:
            pytest.skip(f"no BPF object can be loaded here: {error}")
        yield bpf.map("events")
    finally:
        bpf.close()


def test_nothing_is_left_after_close(events: libbpf.Map) -> None:
    before, mapped_before = descriptors(), mappings()
    for _ in range(3):
        ring = RingBuffer(events.fd, events.max_entries, schema().format)
        assert ring.read(1 << 18) == ([], False)
        assert descriptors() != before
        assert mappings() != mapped_before
        ring.close()
        assert descriptors() == before
        assert mappings() == mapped_before


def test_close_may_be_repeated(events: libbpf.Map) -> None:
    ring = RingBuffer(events.fd, events.max_entries, schema().format)
    ring.close()
    ring.close()
