"""Messages on a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from contextlib import closing

import pytest

from pwru.commands.messages import Progress, say


def test_messages_are_broken_between_words() -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=4H", 24, 40, 0, 0))
    arguments = [sys.executable, "-m", "pwru", "--output-json=maybe"]
    assert subprocess.run(arguments, stderr=slave, check=False).returncode == 2
    os.close(slave)
    assert os.read(master, 4096).decode().splitlines() == [
        "pwru: --output-json/--json: 'maybe' is",
        "  neither true nor false; pwru --help",
        "  shows all flags",
    ]
    os.close(master)


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_without_standard_error(
    stderr: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it gets among the events, and the trace goes on."""
    monkeypatch.setattr("pwru.commands.messages.QUIET_SECONDS", 0)
    monkeypatch.setattr("pwru.commands.messages.LINE_SECONDS", 0)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", None if stderr == "closed" else full)
        say("Listening for events..")
        with closing(Progress("Attaching")) as progress:
            progress(1, 2)
        monkeypatch.undo()
        os.dup2(1, full.fileno())  # what it holds back
    assert capsys.readouterr().out == ""
