"""Recordings of real kernels (*.pwru, see scenes.py), and what pwru prints of them: TESTLIST, expected/.

A line of TESTLIST is a test: its name, which is that of the file in expected/, the recording, and the arguments after
`-r RECORDING`. With COLUMNS=N before them the output is a terminal of that width. `#` begins a comment.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPECTED = HERE / "expected"
SUFFIX = ".pwru"
_TTY_SIZE = struct.Struct("=HHHH")


class Case(NamedTuple):
    """`columns`: the width of the terminal; 0: there is none."""

    name: str
    recording: str
    columns: int
    arguments: tuple[str, ...]

    @property
    def expected(self) -> Path:
        return EXPECTED / self.name


def cases() -> dict[str, Case]:
    """Return the tests by name."""
    found = {}
    for line in (HERE / "TESTLIST").read_text().splitlines():
        if words := shlex.split(line, comments=True):
            name, recording, *arguments = words
            columns = 0
            if arguments and arguments[0].startswith("COLUMNS="):
                columns = int(arguments.pop(0).partition("=")[2])
            assert name not in found, f"{name} is in TESTLIST twice"
            found[name] = Case(name, recording, columns, tuple(arguments))
    return found


def output(case: Case) -> str:
    """Return what pwru prints: stdout, then stderr after a line that says so, then the status if it is not 0."""
    command = [sys.executable, "-m", "pwru", "-r", f"{case.recording}{SUFFIX}", *case.arguments]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "TZ": "UTC", "TERM": "xterm", "LANG": "C.UTF-8"}
    if case.columns:
        out, status, said = _on_a_terminal(command, environment, case.columns)
    else:
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, check=False)
        out, status, said = done.stdout, done.returncode, done.stderr
    text = f"{out.decode()}--- stderr\n{said.decode()}"
    return f"{text}--- status {status}\n" if status else text


def _on_a_terminal(command: list[str], environment: dict[str, str], columns: int) -> tuple[bytes, int, bytes]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, _TTY_SIZE.pack(24, columns, 0, 0))
    with subprocess.Popen(command, cwd=HERE, env=environment, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        printed = b""
        try:
            while some := os.read(ours, 1 << 16):
                printed += some
        except OSError:  # EIO: nobody has the other end any longer
            pass
        os.close(ours)
        _, said = process.communicate()
    return printed.replace(b"\r\n", b"\n"), process.returncode, said
