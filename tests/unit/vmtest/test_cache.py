"""Entries of the cache are complete or missing."""

import threading
import time
from pathlib import Path

import pytest

from vmtest import cache
from vmtest.errors import VmtestError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PWRU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(to: Path) -> None:
    (to / "file").write_text("done")


def test_built_once_and_anew_for_another_recipe() -> None:
    built: list[Path] = []

    def build(to: Path) -> None:
        built.append(to)
        fill(to)

    first = cache.entry("thing", ("a", 1), build, 0)
    assert cache.entry("thing", ("a", 1), build, 0) == first
    second = cache.entry("thing", ("a", 2), build, 0)
    assert second != first
    assert len(built) == 2
    assert (first / "file").read_text() == (second / "file").read_text() == "done"


def test_a_build_that_fails_leaves_nothing(folder: Path) -> None:
    def build(to: Path) -> None:
        fill(to)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.entry("thing", 1, build, 0)
    assert [p.name for p in folder.iterdir()] == [".thing.lock"]


def test_what_a_killed_run_left_is_removed(folder: Path) -> None:
    left = folder / ".thing.tmp1234"
    left.mkdir(parents=True)
    fill(left)
    cache.entry("thing", 1, fill, 0)
    assert not left.exists()


def test_two_runs_build_once() -> None:
    built: list[Path] = []

    def build(to: Path) -> None:
        built.append(to)
        time.sleep(0.2)
        fill(to)

    threads = [threading.Thread(target=cache.entry, args=("thing", 1, build, 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_no_room_is_said_before_anything_is_fetched() -> None:
    with pytest.raises(VmtestError, match=r"MB free and thing needs 1000000000 MB.*PWRU_CACHE"):
        cache.entry("thing", 1, fill, 1_000_000_000)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PWRU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(VmtestError, match=r"cannot prepare thing in .*file/cache"):
        cache.entry("thing", 1, fill, 0)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PWRU_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.folder() == Path("/home/me/.cache/pwru")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert cache.folder() == Path("/var/cache/me/pwru")
