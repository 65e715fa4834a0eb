"""Every `pwru` command line in the README and the guide is valid, and libpcap compiles its filter."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pwru.cli.options import parse
from pwru.filter.packet.pcap import compile_filter

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
