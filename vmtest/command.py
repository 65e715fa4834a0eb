"""Commands: the machine's tools, run for their output or one clear error, and main() functions run as a process."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vmtest.errors import VmtestError


def run(
    *words: str | Path,
    input: str = "",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    fills: tuple[Path, float] | None = None,
) -> str:
    """Return the stdout of a command. Raises VmtestError if it is not installed or fails.

    `fills` is the folder that the command fills, and with how many MB; progress is shown on a terminal.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(input.encode())
        stdin.seek(0)
        try:
            process = subprocess.Popen(words, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT)
        except FileNotFoundError as error:
            raise VmtestError(f"{words[0]} is not installed, and vmtest needs it") from error
        try:
            if fills and sys.stderr.isatty():
                _watch(process, *fills)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        stdout.seek(0)
        text = stdout.read().decode(errors="replace")
    if status:
        lines = [line for line in text.splitlines() if line.strip()] or [f"exit status {status}"]
        # the first line that is marked as an error has the cause; otherwise the last line
        cause = next((line for line in lines if line.startswith(("E: ", "ERROR"))), lines[-1])
        raise VmtestError(f"{Path(words[0]).name} failed: {cause.strip()}")
    return text


def _watch(process: "subprocess.Popen[bytes]", folder: Path, total_mb: float) -> None:
    while process.poll() is None:
        done = sum(f.lstat().st_blocks for f in folder.rglob("*")) * 512 / 1e6
        print(f"\rvmtest: {done:.0f} of {total_mb:.0f} MB ", end="", file=sys.stderr, flush=True)
        time.sleep(0.3)
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run_main(name: str, main: Callable[[list[str]], int]) -> NoReturn:
    """Run a module's main() and exit with its status; an error is one line that begins with the name."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the buffered output
        sys.exit(141)
    except (VmtestError, OSError) as error:
        sys.exit(f"{name}: {error}")


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)  # unwinds, so that guests end and temporary files go
