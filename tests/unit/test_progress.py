"""Messages on a terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios


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
