"""Keeps tests/traces up to date.

  python -m tests.traces record [NAME…]   makes recordings anew, in guests (default: all), and their expected outputs
  python -m tests.traces update [NAME…]   writes the expected outputs of these tests (default: all) as they are now

Look at the difference before it is committed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from . import EXPECTED, HERE, SUFFIX, cases, output


def update(names: list[str]) -> None:
    """Write what the tests with these names print now, and remove what no test expects."""
    known = cases()
    EXPECTED.mkdir(exist_ok=True)
    for name in names or known:
        known[name].expected.write_text(output(known[name]))
    for path in EXPECTED.iterdir():
        if path.name not in known:
            path.unlink()


def record(names: list[str]) -> None:
    """Make these recordings in guests of their kernels, and update the tests that read them."""
    from vmtest import guest, kernels

    from .scenes import SCENES

    wanted = names or list(SCENES)
    for kernel in kernels.find(sorted({SCENES[name].kernel for name in wanted})):
        here = [name for name in wanted if SCENES[name].kernel == kernel.name]
        with tempfile.TemporaryDirectory() as out:
            command = f"python3 -m tests.traces guest {' '.join(here)}"
            result = guest.run(guest.Guest(kernel, command, timeout=1200), out=Path(out), echo=True)
            for made in Path(out).glob(f"*{SUFFIX}"):
                (HERE / made.name).write_bytes(made.read_bytes())
            result.check()
    for path in HERE.glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in SCENES:
            path.unlink()
    if readers := [case.name for case in cases().values() if case.recording in wanted]:
        update(readers)


def in_guest(names: list[str]) -> None:
    """Leave the recordings in /out."""
    from tests.kernel.tracing import Trace

    from .scenes import SCENES

    os.chdir("/out")
    for name in names:
        scene = SCENES[name]
        with tempfile.TemporaryDirectory() as folder, scene.traffic() as send:
            with Trace(Path(folder), ("-w", f"{name}{SUFFIX}", *scene.arguments)) as trace:
                send()
                if trace.stop():
                    raise RuntimeError(trace.err)
            print(f"{name}: {trace.err.splitlines()[-1]}", flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["record", *names]:
            record(names)
        case ["update", *names]:
            update(names)
        case ["guest", *names]:
            in_guest(names)
        case _:
            sys.exit(__doc__)


main()
