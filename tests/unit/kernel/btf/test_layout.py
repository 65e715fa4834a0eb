"""BTF with a layout table in its header, which tells how long records of unknown kinds are."""

from __future__ import annotations

import struct

import pytest

from pwru.kernel import btf
from pwru.kernel.btf import Btf, BtfError, functions
from tests.unit.kernel.samples import Sample

# Kinds after ENUM64: with one word, with entries of one word, with both, with neither, with the longest sizes.
UNKNOWN = [(4, 0), (0, 4), (8, 12), (0, 0), (252, 252)]
FIRST = 20


def add_between(sample: Sample) -> None:
    """Add two functions, and between them a record of each of the unknown kinds, without and with entries."""
    sample.func("first", sample.pskb)
    for kind, (size, size_each) in enumerate(UNKNOWN, FIRST):
        for entries in (0, 1, 3):
            words = (size + entries * size_each) // 4
            sample.add(kind, f"unknown{kind}", 0, *[0xFFFFFFFF] * words, vlen=entries)
    sample.func("last", sample.pskb)


def names(data: bytes, base: Btf | None = None) -> list[str]:
    return [function.name for function in functions(Btf(data, base), "sk_buff")]


def test_a_table_of_known_kinds(sample: Sample) -> None:
    sample.func("ip_rcv", sample.pskb)
    for layout in (None, b""):
        sample.layout = layout
        assert names(sample.data()) == ["ip_rcv"]
    sample.add_layout()
    assert len(sample.data()) == 32 + len(sample.types) + 4 * FIRST + len(sample.strings)
    assert names(sample.data()) == ["ip_rcv"]


def test_unknown_kinds_are_stepped_over(sample: Sample) -> None:
    add_between(sample)
    sample.add_layout(*UNKNOWN)
    assert names(sample.data()) == ["first", "last"]
    found = Btf(sample.data())
    found.validate()
    assert found.count == sample.next_id
    unknown = found.find("unknown20", FIRST)
    assert unknown is not None
    assert found.type(unknown)[1:4] == (FIRST, "unknown20", 0)
    assert found.spelled(unknown) == "unknown20"


def test_the_highest_kind(sample: Sample) -> None:
    sample.add(127, "unknown", 0, 0xFFFFFFFF)
    sample.func("last", sample.pskb)
    sample.add_layout(*[(0, 0)] * (127 - FIRST), (4, 0))
    assert names(sample.data()) == ["last"]


def test_a_known_kind_is_not_looked_up(sample: Sample) -> None:
    sample.func("ip_rcv", sample.pskb)
    sample.layout = b"\xff" * 4 * FIRST
    assert names(sample.data()) == ["ip_rcv"]


def test_unknown_kinds_without_a_table(sample: Sample) -> None:
    add_between(sample)
    for known in (0, len(UNKNOWN) - 1):
        sample.add_layout(*UNKNOWN[:known])
        with pytest.raises(BtfError, match=f"kind {FIRST + known}"):
            Btf(sample.data()).validate()
    sample.layout = None
    with pytest.raises(BtfError, match="kind 20"):
        Btf(sample.data()).validate()


def test_kind_0_is_damage(sample: Sample) -> None:
    sample.add(0, "", 0)
    sample.add_layout()
    with pytest.raises(BtfError, match="kind 0"):
        Btf(sample.data()).validate()


@pytest.mark.parametrize("own", [False, True])
def test_a_module_has_its_kernels_table(sample: Sample, own: bool) -> None:
    sample.add_layout(*UNKNOWN)
    module = Sample(sample)
    module.add(FIRST + 2, "unknown", 0, 1, 2, 3, 4, 5, vlen=1)
    module.func("veth_xmit", sample.pskb)
    if own:
        module.add_layout(*UNKNOWN)
        sample.layout = None
    assert names(module.data(), Btf(sample.data())) == ["veth_xmit"]


def test_more_than_16_bits_of_entries(sample: Sample) -> None:
    count = (1 << 16) + 2
    sample.enum("many", *(("", value) for value in range(count)))
    sample.func("last", sample.pskb)
    assert names(sample.data()) == ["last"]
    assert len(Btf(sample.data()).enum("many") or ()) == count
    assert Btf(sample.data()).find("many", btf.ENUM) == sample.next_id - 3


# --- damaged tables ---


@pytest.mark.parametrize("sizes", [(1, 0), (0, 2), (7, 4), (255, 255)])
def test_sizes_that_are_no_whole_words(sample: Sample, sizes: tuple[int, int]) -> None:
    sample.func("ip_rcv", sample.pskb)
    sample.add_layout(sizes)
    assert names(sample.data()) == ["ip_rcv"]  # nothing has that kind
    sample.add(FIRST, "unknown", 0)
    with pytest.raises(BtfError, match="kind 20 do not consist of whole words"):
        names(sample.data())


@pytest.mark.parametrize(
    ("at", "value"),
    [(24, 0xFFFFFFFC), (28, 0xFFFFFFFC), (28, 0x1000), (28, 4 * FIRST + 1), (28, 4 * FIRST - 2), (4, 28)],
)
def test_a_table_that_does_not_fit(sample: Sample, at: int, value: int) -> None:
    """With a header of 28 bytes the sections are elsewhere."""
    sample.add_layout()
    data = bytearray(sample.data())
    struct.pack_into("=I", data, at, value)
    with pytest.raises(BtfError):
        Btf(bytes(data)).validate()


def test_a_record_that_the_table_makes_too_long(sample: Sample) -> None:
    sample.add(FIRST, "unknown", 0, 1, vlen=2)
    sample.add_layout((0, 4))
    with pytest.raises(BtfError, match="cut off"):
        Btf(sample.data()).validate()


def test_every_truncation(sample: Sample) -> None:
    add_between(sample)
    sample.add_layout(*UNKNOWN)
    data = sample.data()
    for length in range(len(data)):
        with pytest.raises(BtfError):
            Btf(data[:length])
