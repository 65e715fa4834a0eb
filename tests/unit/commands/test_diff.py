"""Two recordings are compared, or packets of one; what it says is true, and what cannot be compared is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pwru.cli.options import parse
from pwru.commands.diff import diff
from pwru.errors import PwruError
from tests.support import recordings


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Packets to port 443 (1, 3), from one step to the next of the same functions, and to port 80 (2, 4)."""
    path = tmp_path / "x.pwru"
    recordings.write(path, [recordings.events()])
    return path


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    said: list[str] = []
    diff(parse(["--diff", *words]), said.append)
    assert said == []
    return capsys.readouterr().out


def test_packets_of_one_recording(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They pass the same functions."""
    assert compared(capsys, str(recording), "port 443", "port 80").splitlines() == [
        f"GOOD  {recording}: port 443: 2 packets, 1 way",
        f"BAD   {recording}: port 80: 2 packets, 1 way",
        "",
        "2 packets of BAD (such as #2) took the same way as 2 packets of GOOD (such as #1): 5 steps",
        "  DIFFERS  FROM   GOOD        BAD",
        "  netns    f1000  4026531841  4026531840",
        "  mark     f1000  0x1, 0x3    0x2, 0x4",
        "  dport    f1000  443         80",
    ]


def test_lines_are_whole_that_go_to_no_terminal(
    recording: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in compared(capsys, str(recording), "port 443", "port 80")


def test_recordings(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.pwru"
    recordings.write(good, [recordings.events(packets=4, each=4)])
    lines = compared(capsys, str(good), str(recording)).splitlines()
    assert lines[3:] == [
        "4 packets of BAD (such as #1) went with 4 packets of GOOD (such as #1) for 3 steps, up to f1002; then",
        "  GOOD  f1003(SKB_DROP_REASON_NO_SOCKET) … dropped: NO_SOCKET in c5003",
        "  BAD   f1003 … dropped: NO_SOCKET in c5004",
    ]


def test_json(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(compared(capsys, str(recording), "port 443", "port 80", "--output-json"))
    assert found["good"] == {"file": str(recording), "filter": "port 443", "packets": 2, "ways": 1}
    (parting,) = found["partings"]
    assert (parting["same"], parting["common"], parting["slowest"]) == (True, 5, None)
    assert parting["differences"][2] == {"what": "dport", "func": "f1000", "good": ["443"], "bad": ["80"]}
    assert parting["bad"]["end"] == "dropped"
    assert parting["bad"]["functions"] == parting["good"]["functions"]


def test_a_damaged_recording(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is compared."""
    cut = tmp_path / "cut.pwru"
    recordings.write(cut, [recordings.events()], account=False)
    said: list[str] = []
    diff(parse(["--diff", str(recording), str(cut)]), said.append)
    assert len(said) == 1
    assert said[0].startswith(f"{cut} ends without an account: ")
    assert "took the same way" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{}", "port 443", "icmp"], "{}: icmp: there are no packets to compare"),
        (["{}", "/nowhere"], "cannot read /nowhere: No such file or directory"),
        (["-", "-"], "standard input can be read only once: name a file"),
    ],
)
def test_what_cannot_be_compared(recording: Path, words: list[str], message: str) -> None:
    with pytest.raises(PwruError) as error:
        diff(parse(["--diff", *(word.format(recording) for word in words)]), lambda _: None)
    assert str(error.value) == message.format(recording)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "--diff compares two recordings, or packets of one by two filters, each in quotes"),
        (["a", "b", "c", "d"], "--diff compares two recordings, or packets of one by two filters, each in quotes"),
        (["a", "b", "--strict"], "--diff works only without --strict: all it can be told is in the words after it"),
        (["a", "-r", "b"], "--diff works only without -r: all it can be told is in the words after it"),
    ],
)
def test_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--diff", *words])
    assert capsys.readouterr().err == f"pwru: {message}; pwru --help shows all flags\n"
