"""What the guide tells people to type is a command line, with a filter that libpcap compiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pwru import cli
from pwru.filter.packet.pcap import Compiler, Filter

GUIDE = Path(__file__).parents[2] / "docs/guide.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide(command: str) -> None:
    name, *arguments = shlex.split(command)
    assert name == "pwru"
    options = cli.options(arguments)
    if options.filter_func:
        re.compile(options.filter_func)
    if options.pcap_filter:
        inner = options.filter_tunnel_pcap_l2, options.filter_tunnel_pcap_l3
        assert Compiler(Filter(options.pcap_filter, (), *inner)).programs()
