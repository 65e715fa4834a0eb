"""A report of 100 000 events is as good to use as a short one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.page import Page as Known
from tests.support.traffic import write_made_up

from .viewer import Viewer, search

LOAD, SEARCH, OPEN = 5.0, 1.0, 1.0  # seconds, at most; a fifth of it on a quiet machine


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "long.html"
    write_made_up(path, 3000)
    return path


def test_a_long_trace(viewer: Viewer, long: Path) -> None:
    known = Known(long.read_text())
    assert len(known.data["steps"]["time"]) >= 100_000
    began = time.monotonic()
    page = viewer.open(long)
    assert time.monotonic() - began < LOAD
    assert page.locator("#list .row").count() < 50
    for words in ("nft_do_chain", "-tcp", "10.9.1.77 ping"):
        began = time.monotonic()
        assert " of " in search(page, words)
        assert time.monotonic() - began < SEARCH + 0.15
    search(page, "")
    page.locator("#list").focus()
    began = time.monotonic()
    page.keyboard.press("End")
    assert page.inner_text("#packet .id") == f"#{max(packet.number for packet in known.packets)}"
    assert time.monotonic() - began < OPEN


def test_it_says_what_it_leaves_out(viewer: Viewer, long: Path) -> None:
    page = viewer.open(long)
    assert "packets are left out" in page.inner_text("#notice")
