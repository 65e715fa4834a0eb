"""Each command line in the README and the guide is valid, libpcap compiles its filter, and examples in Python run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pwru.cli.options import parse
from pwru.filter.packet.pcap import compile_filter
from tests.support import recordings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _commands(name: str) -> list[str]:
    blocks = BLOCK.findall((ROOT / name).read_text())
    return [line for block in blocks for line in block.splitlines()]


GUIDE = _commands("docs/guide.md")
README = [line for line in _commands("README.md") if line.startswith("pwru ")]  # others build, install and test


@pytest.mark.parametrize("command", [*GUIDE, *README])
def test_commands(command: str) -> None:
    name, *arguments = shlex.split(command)
    assert name == "pwru"
    request = parse(arguments).request
    if request.functions:
        re.compile(request.functions)
    if request.filter:
        assert compile_filter(request.filter)


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as somebody would type them; each says something."""
    for package in ("pandas", "polars", "pyarrow"):
        pytest.importorskip(package)
    recordings.write(tmp_path / "trace.pwru", [recordings.events(20)])
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    printed = []
    for block in blocks:
        exec(block.replace("kfree_skb.*", "f1004"), names)
        printed.append(capsys.readouterr().out)
    assert len(blocks) == 4
    assert "f1004(SKB_DROP_REASON_NO_SOCKET)" in printed[0]
    assert "#20 4000 dropped ['f1000', 'f1001'" in printed[1]
    assert "SKB_DROP_REASON_NO_SOCKET" in printed[2]
    assert "84.0" in printed[3]
