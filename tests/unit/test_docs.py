"""Every `pwru` command line in the docs is valid, and libpcap compiles its filter; what they have of Python runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
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


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blocks of docs/python.md, to be run where there is a recording."""
    recordings.write(tmp_path / "trace.pwru", [recordings.events(20)])
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/python.md").read_text()
    return [block.replace("kfree_skb.*", "f1004") for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]


def test_python(examples: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as somebody would type them; each says something."""
    names: dict[str, Any] = {}
    exec(examples[0], names)
    printed = capsys.readouterr().out
    assert "f1004(SKB_DROP_REASON_NO_SOCKET)" in printed
    assert printed.endswith("10 events, 0 lost\n")
    exec(examples[1], names)
    assert "#20 4000 dropped ['f1000', 'f1001'" in capsys.readouterr().out
    assert len(examples) == 4


@pytest.mark.parametrize(
    ("number", "package", "printed"), [(2, "polars", "SKB_DROP_REASON_NO_SOCKET"), (3, "pandas", "84.0")]
)
def test_data_frames(
    number: int, package: str, printed: str, examples: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """These packages are large: `make test-frames` installs them."""
    pytest.importorskip(package)
    exec("import pwru\n" + examples[number])
    assert printed in capsys.readouterr().out


def test_the_reader_of_the_file_format(tmp_path: Path) -> None:
    """The program in the description reads what is recorded."""
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/file-format.md").read_text(), re.M | re.S)
    events = recordings.events()
    recordings.write(tmp_path / "x", [events[:7], events[7:]])
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "x")], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    read = [tuple(line.split()) for line in done.stdout.splitlines()]
    schema = recordings.SCHEMA
    hits = [schema.hit(event.hit) for event in events]
    reasons = ["(SKB_DROP_REASON_NO_SOCKET)" if hit.reason else "" for hit in hits]
    assert read == [
        (str(event.time), schema.task(event.task).comm, f"f{hit.addr:x}{reason}")
        for event, hit, reason in zip(events, hits, reasons, strict=True)
    ]
