"""How errors leave the command, and its exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pwru import cli
from pwru.commands.options import Options
from pwru.errors import PwruError


def test_error_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise PwruError("the moon is full; wait for a new one")

    monkeypatch.setattr("pwru.commands.trace.trace", fail)
    assert cli.main([]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "pwru: the moon is full; wait for a new one\n")


@pytest.mark.parametrize("strict", [True, False])
def test_a_reader_that_has_gone_is_a_loss(strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(*_: object) -> bool:
        raise BrokenPipeError

    monkeypatch.setattr("pwru.commands.trace.trace", trace)
    assert cli.main([f"--strict={strict}"]) == (3 if strict else 0)


@pytest.mark.parametrize(
    ("flags", "complete", "status"), [([], False, 0), (["--strict"], False, 3), (["--strict"], True, 0)]
)
def test_a_loss_is_an_error_if_strict(
    flags: list[str], complete: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwru.commands.trace.trace", lambda *_: complete)
    assert cli.main(flags) == status


def test_parameters_are_named_as_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In errors and in messages; all else in backticks is as it was."""

    def trace(_options: Options, say: Callable[[str], None], _compiled: object) -> bool:
        say("debug: `ulimit -n 5`, or a narrower `functions`")
        raise PwruError("`modules` veth: it is not loaded; see `all_modules`, `skb`")

    monkeypatch.setattr("pwru.commands.trace.trace", trace)
    assert cli.main([]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "debug: `ulimit -n 5`, or a narrower --filter-func",
        "pwru: --kmods veth: it is not loaded; see --all-kmods, `skb`",
    ]


@pytest.mark.parametrize("works", [True, False])
def test_check(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(options: Options, flags_named: Callable[[str], str]) -> bool:
        assert options.check
        assert flags_named("`modules`, `all_modules`, `typed`") == "--kmods, --all-kmods, PCAP-FILTER"
        return works

    monkeypatch.setattr("pwru.commands.check.check", check)
    assert cli.main(["--check"]) == (0 if works else 1)


def test_without_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many fields can be printed is asked of the BPF object."""
    monkeypatch.setattr("pwru.live.loader.OBJECT", tmp_path / "missing")
    assert cli.main(["--output-skb-metadata=skb->mark"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pwru: ")
    assert "missing" in line
