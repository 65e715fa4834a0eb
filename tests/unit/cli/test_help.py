"""What the command says about itself."""

from __future__ import annotations

import re
import shlex

import pytest

from pwru import __version__
from pwru.cli.flags import FLAGS
from pwru.cli.options import parse
from pwru.filter.packet.pcap import compile_filter


def help_text(flag: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as exit_status:
        parse([flag])
    assert exit_status.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(flag, columns, monkeypatch, capsys)
    assert max(map(len, text.splitlines())) < 80
    assert text.isascii()  # a terminal may know no more
    assert not re.search(r" $", text, re.MULTILINE)
    # Whatever may be given is there, and has its explanation beside it, if it is not hidden.
    for row in FLAGS:
        for name in row.names.split():
            shown = re.search(rf"^  (\S+, )?{re.escape(name)}\b.*(  |\n {{32}})\w", text, re.MULTILINE)
            assert row.hidden is not bool(shown), name


def test_hidden_flags() -> None:
    """Only what scripts may need, and nobody can judge, is hidden."""
    hidden = {flag.name for flag in FLAGS if flag.hidden}
    assert hidden == {"--all-kprobes", "--filter-kprobe-batch", "--set-percpu-buf"}


def test_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text("--help", 80, monkeypatch, capsys)
    examples = re.findall(r"^  pwru (.*)\n      \w", text.partition("examples:")[2], re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        chosen = parse(shlex.split(example))
        assert compile_filter(chosen.request.filter)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse(["--version"])
    assert exit_status.value.code == 0
    assert capsys.readouterr().out == f"pwru {__version__}\n"
