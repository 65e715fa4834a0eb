"""What bash gets for a command line, as the words between its escapes: asked by the script that `pwru` prints."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

_ASK = """
eval "$(pwru --completion bash)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete_pwru pwru
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(line: str, *, path: str = "", before: Sequence[str] = ()) -> list[str]:
    """Return what may come at the end of the line; `before` is a command that runs bash. Nothing else is printed.

    `path`: where `pwru` is, if it is not in the PATH.
    """
    done = subprocess.run(
        [*before, "bash", "-c", _ASK, "bash", line],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}".lstrip(":")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr, done.stderr
    return [word for text in done.stdout.splitlines() for word in shlex.split(text)]
