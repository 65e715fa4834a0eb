"""What pwru reads from a recording that a test has made."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pwru.errors import PwruError
from pwru.record.recording import Recording

from .leftovers import PATIENCE


class Read(NamedTuple):
    """A run of `pwru -r`; `out` are lines, the header among them."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def events(self) -> list[str]:
        return self.out[1:]


def read(path: Path | str, *arguments: str, status: int = 0, **process: Any) -> Read:
    """Read a recording; `process`: see subprocess.run()."""
    done = subprocess.run(
        ["pwru", "-r", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **process,
    )
    assert done.returncode == status, done
    return Read(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


def recorded(path: Path) -> int:
    """Return how many events are in a file by now."""
    count = 0
    with suppress(FileNotFoundError, PwruError), path.open("rb") as file:
        for columns in Recording(file).chunks():
            count += columns.events
    return count
