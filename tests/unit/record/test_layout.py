"""Structs and constants of an object, by name: of the one that was built, and of BTF written here."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from pwru.errors import PwruError
from pwru.kernel.btf import Btf
from pwru.record.layout import Layout, Wire
from tests.support.records import wire
from tests.unit.kernel.btf_writer import Writer

MISMATCH = "does not belong to this version"


@pytest.fixture(scope="module")
def layout() -> Layout:
    """A struct with one member of every kind, a gap before `big`, and room after the last one."""
    w = Writer()
    u8, u32, u64 = w.integer("__u8", 1), w.integer("__u32", 4), w.integer("__u64", 8)
    s32 = w.integer("int", 4, True)
    w.struct(
        "all", 56, ("small", u8, 0), ("negative", s32, 32), ("name", w.array(u8, u32, 5), 64), ("big", u64, 128),
        ("numbers", w.array(u32, u32, 3), 192), ("inner", w.struct("inner", 8, ("n", u64, 0)), 320),
    )  # fmt: skip
    return Wire(Btf(w.data())).layout("all")


def test_pack_and_unpack(layout: Layout) -> None:
    values: dict[str, int | bytes | Sequence[int]] = {
        "small": 1,
        "negative": -2,
        "name": b"abc",
        "big": 1 << 63,
        "numbers": (7, 0, 9),
        "inner": b"innerrrr",
    }
    packed = layout.pack(values)
    assert packed == struct.pack("=B3xi5s3xQ3I4x8s8x", 1, -2, b"abc", 1 << 63, 7, 0, 9, b"innerrrr")
    assert layout.size == len(packed)
    assert layout.unpack(packed)._asdict() == values | {"name": b"abc\0\0"}
    assert layout.unpack(b"before" + packed, 6).big == 1 << 63


def test_a_member_that_is_not_given_is_0(layout: Layout) -> None:
    assert layout.pack({}) == bytes(56)
    assert layout.pack({"big": 5}) == struct.pack("=16xQ32x", 5)
    assert layout.unpack(layout.pack({})).numbers == (0, 0, 0)


def test_an_unknown_member_is_refused(layout: Layout) -> None:
    with pytest.raises(PwruError, match=MISMATCH):
        layout.pack({"small": 1, "no_such_member": 1})


def test_sizes_of_members(layout: Layout) -> None:
    assert [layout.size_of(name) for name in ("small", "name", "big", "numbers", "inner")] == [1, 5, 8, 12, 8]


def test_config_is_packed_by_name() -> None:
    """In the order of the object, whatever the order of the values, and with each member of its own size."""
    numbers = ("netns", "ifindex", "mark", "mark_mask", "pid", "pid_ns_dev", "pid_ns_inode")
    filters = ("filters", "tries", "ip_is_entry", "tcp_flags", "follow_xdp", "xdp_expr", "sees_all", "by_stack")
    more = (*filters, "no_helper", "has_cookie")
    last = ("trace_run_size", "page_size", "record_size")
    values: dict[str, int | bytes | list[int]] = {name: n for n, name in enumerate((*numbers, *more, *last), 1)}
    values |= {
        "first_page": 1 << 41,
        "first_address": 1 << 42,
        "trace_run": 1 << 40,
        "comm": b"comm",
        "reasons": list(range(8)),
        "reason_masks": [3] * 8,
    }
    values |= {"at": [1] * 13, "size": [2] * 13}
    packed = wire().layout("config").pack(dict(sorted(values.items())))
    middle = len(more) + 2
    padding = 4 * (middle % 2 == 0)
    expected = struct.pack(f"=7I16s16I{middle}I{padding}xQQQI13H13H", *range(1, 8), b"comm", *range(8), *[3] * 8,
                           *range(8, 8 + middle), 1 << 41, 1 << 42, 1 << 40, 8 + middle,
                           *[1] * 13, *[2] * 13)  # fmt: skip
    assert packed == expected + bytes(-len(expected) % 8)
    with pytest.raises(PwruError, match=MISMATCH):
        wire().layout("config").pack({"netns": 1, "mark_at": 1})


def test_what_is_missing_is_a_mismatch() -> None:
    with pytest.raises(PwruError, match=MISMATCH):
        wire().layout("no_such_struct")
    with pytest.raises(PwruError, match=MISMATCH):
        wire().enum("no_such_enum")
    with pytest.raises(PwruError, match=MISMATCH):
        wire().constant("NO_SUCH_CONSTANT")


def test_enums() -> None:
    assert list(wire().enum("part"))[:2] == ["PART_LOCATION", "PART_META"]
    assert wire().constant("PART_META") == 1
    assert wire().constant("FILTER_META") == 1


def test_a_constant_that_means_two_things_is_a_mismatch() -> None:
    w = Writer()
    w.enum("one", ("SAME", 1))
    w.enum("other", ("SAME", 2))
    with pytest.raises(PwruError, match=MISMATCH):
        Wire(Btf(w.data())).constant("SAME")


def test_members_that_earlier_versions_lack(layout: Layout) -> None:
    raw = layout.pack({"small": 7, "big": 9})
    assert layout.getter("small", "negative", later=("big",))(raw) == (7, 0, 9)
    assert layout.getter("small", "big", later=("newer", "newest"))(raw) == (7, 9, 0, 0)
