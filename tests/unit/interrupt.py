"""Interrupt a Python command at a given moment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

# Python imports it when it starts. It sends the signal from inside, so that it arrives exactly at the given call.
INTERRUPT = """\
import os, signal, sys
def look(frame, event, _):
    at = f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}"
    if event == "call" and at == os.environ["INTERRUPT_AT"]:
        sys.setprofile(None)
        open(os.path.join(os.path.dirname(__file__), "hit"), "w").close()
        os.kill(os.getpid(), signal.SIGINT)
sys.setprofile(look)
"""


def interrupted(at: str, folder: Path, *command: str) -> tuple[int, str]:
    """Run a Python command that gets SIGINT when it calls `MODULE:NAME`. Return its exit status and stderr.

    `<module>` is the function that runs when a module is imported.
    """
    (folder / "sitecustomize.py").write_text(INTERRUPT)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(CHECKOUT))])
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "INTERRUPT_AT": at},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert (folder / "hit").exists(), f"{at} was not called: {done.stderr}"
    return done.returncode, done.stderr
