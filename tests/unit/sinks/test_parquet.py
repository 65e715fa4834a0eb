"""A table that the command writes is the one that Python gets, whichever way the events come to it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet as pq

import pwru
from pwru.cli import main
from tests.support import recordings

EVENTS = recordings.events(packets=20)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "x.pwru"
    recordings.write(path, [EVENTS])
    return path


@pytest.mark.parametrize("more", [(), ("--print",), ("--output-limit-lines=1000",)], ids=str)
@pytest.mark.parametrize(
    ("words", "wanted", "counted"),
    [
        ((), {}, "100 events of at least 20 packets"),
        (("port", "443"), {"filter": "port 443"}, "50 events of at least 10 packets"),
        (("--filter-packet=3",), {"packets": [3]}, "5 events of at least 1 packet,"),
        (("port", "22"), {"filter": "port 22"}, "0 events of 0 packets"),
    ],
    ids=str,
)
def test_as_from_python(
    recording: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    words: tuple[str, ...],
    wanted: dict[str, str],
    counted: str,
) -> None:
    """By columns; and by records, if there is another output or a limit."""
    path = tmp_path / "x.parquet"
    assert main(["-r", str(recording), "--output-parquet", str(path), *more, *words]) == 0
    out, err = capfd.readouterr()
    assert counted in err
    assert bool(out) is ("--print" in more)
    expected = pwru.open(recording, **wanted).to_arrow().read_all()  # type: ignore[arg-type]
    assert pq.read_table(path).equals(expected.unify_dictionaries().combine_chunks())


def test_a_limit(recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    assert main(["-r", str(recording), "--output-parquet", str(path), "--output-limit-lines=7"]) == 0
    assert pq.read_table(path).num_rows == 7


def test_a_full_disk(recording: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-r", str(recording), "--output-parquet", "/dev/full"]) == 1
    assert "pwru: cannot write /dev/full: No space left on device" in capfd.readouterr().err


def test_a_recording_is_not_overwritten(recording: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = recording.read_bytes()
    assert main(["-r", str(recording), "--output-parquet", str(recording)]) == 1
    assert "is the recording that is read" in capfd.readouterr().err
    assert recording.read_bytes() == before
