"""The command line: one command in one kernel, or the kernel tests in several."""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from pwru.errors import PwruError
from vmtest import guest, kernels
from vmtest.kernels import Kernel

EPILOG = """\
KERNEL is a name from --list, `ci` (those that CI runs) or `all`. One COMMAND is a line for the shell,
several are its words. Without a command a shell opens on this terminal. The checkout is at /pwru in
the guest, the installed product in its PATH. The exit status is the command's; 124: timed out;
125: the guest failed, or its kernel's log has a warning.

  python -m vmtest 6.12 -- 'pwru --version; uname -r'
  python -m vmtest --tests 6.1 6.12 -- -k drop -x
"""


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        "python -m vmtest",
        usage="python -m vmtest [options] KERNEL [-- COMMAND …]\n"
        "       python -m vmtest [options] --tests [KERNEL …] [-- PYTEST ARGUMENT …]\n"
        "       python -m vmtest --list",
        description="Run a command, or pwru's kernel tests, on another kernel in a virtual machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="list the kernels")
    parser.add_argument("--tests", action="store_true", help="run tests/kernel (default kernels: ci)")
    parser.add_argument("--bare", action="store_true", help="without the installed product")
    parser.add_argument("--smp", type=int, default=2, metavar="N", help="CPUs (default: 2)")
    parser.add_argument("--mem", type=int, default=2048, metavar="MB", help="memory (default: 2048)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds (default: 300, tests 1200)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="put what the guest leaves in /out here")
    before, separator, after = _split(arguments)
    options = parser.parse_args(before)
    if not options.list and not options.tests:
        if not options.kernels:
            parser.error("which KERNEL? --list shows them")
        if len(options.kernels) > 1:
            parser.error("one KERNEL, and `--` before the command")
        if not separator and not (sys.stdin.isatty() and sys.stdout.isatty()):
            parser.error("no command, and no terminal for a shell")
        if separator and not after:
            parser.error("no command after `--`")
    return options, after


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], at < len(arguments), arguments[at + 1 :]


def main(arguments: list[str]) -> int:
    """Exit status of a command line."""
    options, after = _parse(arguments)
    if options.list:
        for kernel in kernels.KERNELS:
            print(f"{kernel.name:6} {kernel.release:20} {'ci' if kernel.in_ci else ''}".rstrip())
        return 0
    found = kernels.find(options.kernels or ["ci"])
    if options.tests:
        command: str | None = "python3 -m pytest " + shlex.join(["tests/kernel", *after])
    elif after:
        command = after[0] if len(after) == 1 else shlex.join(after)
    else:
        command = None
    results = [_run(kernel, command, options, several=len(found) > 1) for kernel in found]
    if options.tests:
        for result in results:
            verdict = "passed" if result.status == 0 else "FAILED"
            summary = result.error or (result.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
            print(f"{result.kernel.name:6} {verdict} in {result.seconds:.0f} s (boot {result.boot:.1f} s): {summary}")
    return next((result.status for result in results if result.status), 0)


def _run(kernel: Kernel, command: str | None, options: argparse.Namespace, several: bool) -> guest.Result:
    if several or options.tests:
        print(f"=== Linux {kernel.name}", flush=True)
    result = guest.run(
        kernel,
        command,
        smp=options.smp,
        memory_mb=options.mem,
        timeout=options.timeout or (None if command is None else 1200 if options.tests else 300),
        out=options.out,
        echo=True,
        bare=options.bare,
    )
    if result.error:
        for line in result.console.splitlines()[-40:]:
            print(f"  {line}", file=sys.stderr)
        print(f"vmtest: Linux {kernel.name}: {result.error}; the console: {result.log}", file=sys.stderr)
    return result


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)  # unwinds, so that the guest ends and temporary files go


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes nowhere
        sys.exit(141)
    except (PwruError, OSError) as error:
        sys.exit(f"vmtest: {error}")
