"""Decoding: the layout of the built object against records written by hand."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.event import Packet, Process, Tuple, pack
from pwru.kernel.btf import Btf

from .records import OBJECT, decoder, packet, process, record


def test_a_record() -> None:
    data = record(skb=0xFFFF888000001234, addr=0xFFFFFFFF81234567, location=5, cpu=3, reason=77)
    (decoded,) = decoder().records(memoryview(data))
    assert decoded[2:7] == (0xFFFF888000001234, 0xFFFFFFFF81234567, 5, 3, 77)
    assert (decoded[7], decoded[8]) == (process(), packet())
    assert decoder().record_size == len(data)


def test_records_end_at_one_that_is_being_written() -> None:
    data = record(cpu=0) + record(cpu=1) + record(cpu=2, busy=True) + record(cpu=3)
    assert [r[5] for r in decoder().records(memoryview(data))] == [0, 1]


def test_a_record_that_is_cut_off_waits() -> None:
    data = record(cpu=0) + record(cpu=1)[:-8]
    assert [r[5] for r in decoder().records(memoryview(data))] == [0]
    assert decoder().records(memoryview(b"")) == []


def test_process() -> None:
    assert decoder().process(process(7, b"nginx: worker")) == Process(7, "nginx: worker")


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
    assert decoder().process(process(1, comm)).comm == printed


def test_packet_ipv4() -> None:
    assert decoder().packet(packet(ports=(1234, 80), l4=6, mark=0xAB)) == Packet(
        4026531840, 0xAB, 2, "v0", 1500, 84, 0x0800, Tuple(4, "10.9.0.1", "10.9.0.2", 1234, 80, 6)
    )


def test_packet_ipv6() -> None:
    run = packet(protocol=0x86DD, source="fd00::1", destination="::", ports=(0, 65535), l4=17)
    assert decoder().packet(run).tuple == Tuple(6, "fd00::1", "::", 0, 65535, 17)


def test_packet_without_ip() -> None:
    assert decoder().packet(packet(protocol=0x0806, source="", destination="", l4=0)).tuple is None


def test_config_is_packed_by_name() -> None:
    btf = Btf.from_file(str(OBJECT))
    values = {"netns": 1, "ifindex": 2, "mark": 3, "mark_mask": 4, "has_filter": 1}
    assert pack(btf, "config", values) == b"".join(v.to_bytes(4, "little") for v in values.values())
    with pytest.raises(PwruError, match="does not belong to this version"):
        pack(btf, "config", {"netns": 1})
