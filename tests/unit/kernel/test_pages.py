"""Where struct pages and their pages are, from the headers of /proc/kcore."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pwru.kernel import features
from pwru.kernel.pages import Pages, find_pages

NONE = 0xFFFFFFFFFFFFFFFF
# Of a guest with 2 GB: notes; the kernel, vmalloc, modules; two pieces of memory with their struct pages.
SEGMENTS = [
    (4, 0, 0, 0),
    (1, 0xFFFFFFFF96A00000, 0x67C00000, 0x2C30000),
    (1, 0xFFFFCDF900000000, NONE, 0x1FFFFFFFFFFF),
    (1, 0xFFFFFFFFC0000000, NONE, 0x3F000000),
    (1, 0xFFFF8BE4C0001000, 0x1000, 0x9E000),
    (1, 0xFFFFF5C6C0000000, NONE, 0x3000),
    (1, 0xFFFF8BE4C0100000, 0x100000, 0x7FED7000),
    (1, 0xFFFFF5C6C0004000, NONE, 0x1FFC000),
]
FIRST = Pages(0xFFFFF5C6C0000040, 0xFFFF8BE4C0001000, 4096)


def kcore(path: Path, segments: list[tuple[int, int, int, int]]) -> str:
    header = struct.pack("<32xQ14xHH4x", 64, 56, len(segments))
    parts = (struct.pack("<I12xQQ8xQ8x", *segment) for segment in segments)
    path.write_bytes(header.ljust(64, b"\0") + b"".join(parts))
    return str(path)


def test_the_first_page(tmp_path: Path) -> None:
    assert find_pages(64, kcore(tmp_path / "kcore", SEGMENTS)) == FIRST


def test_memory_that_begins_elsewhere(tmp_path: Path) -> None:
    """As on arm64, where the first struct page is not that of physical address 0."""
    segments = [(1, 0xFFFF000000000000, 0x40000000, 0x80000000), (1, 0xFFFFFC0000000000, NONE, 0x2000000)]
    assert find_pages(64, kcore(tmp_path / "kcore", segments)) == Pages(0xFFFFFC0000000000, 0xFFFF000000000000, 4096)


@pytest.mark.parametrize(
    "segments",
    [
        [],
        SEGMENTS[:5],
        [*SEGMENTS[:6], (1, 0xFFFFF5C6D0000000, NONE, 0x3000)],  # either might be it
    ],
)
def test_not_to_be_told(tmp_path: Path, segments: list[tuple[int, int, int, int]]) -> None:
    assert find_pages(64, kcore(tmp_path / "kcore", segments)) is None


def test_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, one that is cut, and a lockdown under which reading it is denied."""
    assert find_pages(64, str(tmp_path / "none")) is None
    path = Path(kcore(tmp_path / "kcore", SEGMENTS))
    for size in (0, 20, 100):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:size])
        assert find_pages(64, str(tmp_path / "cut")) is None
    monkeypatch.setattr(features, "lockdown", lambda: features.CONFIDENTIALITY)
    assert find_pages(64, str(path)) is None
