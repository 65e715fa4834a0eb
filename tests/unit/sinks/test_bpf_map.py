"""Operations of BPF maps, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from pwru.record.parts import BpfMap
from pwru.sinks.details import Details
from tests.support.records import schema, wire
from tests.support.source import FakeNames

OF = schema("bpfmap")
KEY, VALUE = bytes.fromhex("0a090002"), bytes.fromhex("0100000000000000")


def raw(**members: int | bytes | Sequence[int]) -> bytes:
    """Return the part as the BPF program writes it: what is not given is what was there before."""
    before: dict[str, int | bytes | Sequence[int]] = {"key": b"\xaa" * 64, "value": b"\xbb" * 128}
    return wire().layout("bpfmap").pack({**before, **members})


def operation(value_is: str, **members: int | bytes | Sequence[int]) -> bytes:
    usual: dict[str, int | bytes | Sequence[int]] = {"id": 12, "name": b"flows", "has_key": 1, "key": KEY}
    usual |= {"key_size": 4, "value_size": 8, "value": VALUE, "value_is": wire().constant(f"MAP_VALUE_{value_is}")}
    return raw(**{**usual, **members})


@pytest.mark.parametrize(
    ("part", "text", "members"),
    [
        (
            operation("KNOWN"),
            "\nmap flows (id 12): key 0a 09 00 02, value 01 00 00 00 00 00 00 00",
            {"key": "0a090002", "value": "0100000000000000", "found": True},
        ),
        (
            operation("MISSING"),
            "\nmap flows (id 12): key 0a 09 00 02, value not found",
            {"value": None, "found": False},
        ),
        (operation("NONE"), "\nmap flows (id 12): key 0a 09 00 02", {"value": None, "found": True}),
        (operation("NONE", has_key=0), "\nmap flows (id 12)", {"key": None, "value": None, "found": True}),
        (
            operation("NONE", key_size=70, key=b"\x01" * 64),
            f"\nmap flows (id 12): key {' '.join(['01'] * 64)} … (64 of 70 bytes)",
            {"key": "01" * 64, "key_size": 70},
        ),
        (operation("NONE", name=b"a\x1b\n", has_key=0), "\nmap a\\x1b\\x0a (id 12)", {"name": "a\\x1b\\x0a"}),
    ],
)
def test_operation(part: bytes, text: str, members: dict[str, object]) -> None:
    details = Details(OF, FakeNames())
    assert details.text(part) == text
    told = details.members(part)["bpf_map"]
    assert isinstance(told, dict)
    assert told.items() >= ({"name": "flows", "id": 12, "key_size": 4, "value_size": 8} | members).items()


def test_any_other_event() -> None:
    details = Details(OF, FakeNames())
    assert details.text(raw()) == ""
    assert details.members(raw()) == {"bpf_map": None}


@pytest.mark.parametrize("seed", range(50))
def test_whatever_the_bytes_are(seed: int) -> None:
    used = OF.details(Random(seed).randbytes(OF.size))["bpfmap"]
    assert isinstance(used, BpfMap)
    assert len(used.key or b"") <= 64
    assert Details(OF, FakeNames()).text(Random(seed).randbytes(OF.size)).replace("\n", "").isprintable()
