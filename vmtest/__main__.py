"""The command line: one command in one kernel, or the kernel tests in several."""

import argparse
import re
import shlex
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from vmtest import cache, kernels, support
from vmtest.command import run_main
from vmtest.guest import Guest, Result, prepare, run
from vmtest.kernels import RUNS_ON, Kernel

EPILOG = """\
KERNEL is a name from --list, or `all` for every x86-64 kernel. COMMAND is one line for the shell, or
several words. Without a command, a shell opens on this terminal. The checkout is at /pwru in the guest,
the installed product in its PATH. The exit status is the command's; 124: timed out; 125: the guest
failed, or its kernel's log has a warning. Tests on several kernels run side by side; the output of
each guest is printed when it has ended.

  python -m vmtest 6.12 -- 'pwru --version; uname -r'
  python -m vmtest --tests 6.1 6.12 -- -k drop -x
"""


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        "python -m vmtest",
        usage="python -m vmtest [options] KERNEL [-- COMMAND …]\n"
        "       python -m vmtest [options] --tests [KERNEL …] [-- PYTEST ARGUMENT …]\n"
        "       python -m vmtest --list | --support",
        description="Run a command, or pwru's kernel tests, on another kernel in a virtual machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="list the kernels")
    parser.add_argument("--support", action="store_true", help="write the README's table of kernels and backends")
    parser.add_argument("--tests", action="store_true", help="run tests/kernel (default kernels: all)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="guests that run at once (default: 2)")
    parser.add_argument("--bare", action="store_true", help="do not install the product in the guest")
    parser.add_argument("--smp", type=int, default=2, metavar="N", help="number of CPUs (default: 2)")
    parser.add_argument("--mem", type=int, default=2048, metavar="MB", help="memory (default: 2048)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds (default: 300, tests 7200)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to put what the guest leaves in /out")
    before, separator, after = _split(arguments)
    options = parser.parse_args(before)
    if not options.list and not options.support and not options.tests:
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
    """Run a command line. Return its exit status."""
    options, after = _parse(arguments)
    if options.list:
        for kernel in kernels.KERNELS:
            print(f"{kernel.name:10} {kernel.release:20} {' '.join(kernel.backends)}")
        return 0
    if options.support:
        support.README.write_text(support.put(support.README.read_text()))
        return 0
    selected = kernels.find(options.kernels or ["all"])
    if options.tests:
        which = [] if any(word.startswith("tests/") for word in after) else ["tests/kernel"]
        return _tests(selected, f"python3 -m pytest {shlex.join([*which, *after])}", options)
    command = (after[0] if len(after) == 1 else shlex.join(after)) if after else None
    result = run(_guest(selected[0], command, options, 300 if command else None), out=options.out, echo=True)
    _complain(result)
    return result.status


def _tests(selected: list[Kernel], command: str, options: argparse.Namespace) -> int:
    """Run the tests in several guests side by side; the output of each is printed as a whole."""
    began = time.monotonic()
    for kernel in selected:  # one after the other: they share parts
        prepare(kernel, options.bare)
    alone = len(selected) == 1
    stop = threading.Event()
    results = []
    # What takes longest begins first, so that nothing runs alone for long.
    queue = sorted(selected, key=lambda kernel: sum(kernel.name in names for names in RUNS_ON.values()), reverse=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            running = [pool.submit(_test, kernel, command, options, alone=alone, stop=stop) for kernel in queue]
            for done in as_completed(running):
                results.append(result := done.result())
                if not alone:
                    print(f"\n=== Linux {result.kernel.name}\n{result.stdout}{result.stderr}", flush=True)
                _complain(result)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    print()
    for result in sorted(results, key=lambda result: selected.index(result.kernel)):
        verdict = "passed" if result.status == 0 else "FAILED"
        summary = result.error or (result.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
        print(f"{result.kernel.name:6} {verdict} in {result.seconds:.0f} s (boot {result.boot:.1f} s): {summary}")
    print(f"{len(selected)} kernels in {time.monotonic() - began:.0f} s")
    return next((result.status for result in results if result.status), 0)


def _test(kernel: Kernel, command: str, options: argparse.Namespace, *, alone: bool, stop: threading.Event) -> Result:
    """Run the tests in one guest; if the emulation fails, run once more those that have not passed."""

    def progress(line: str) -> None:
        if not alone and re.search(r"\[ *\d+%\]$", line):
            cache.say(f"{kernel.name:5} {line.removeprefix('tests/kernel/')}")

    def run_but(done: list[str]) -> Result:
        words = " ".join([command, *(f"--ignore={path}" for path in done)])
        guest = _guest(kernel, words, options, 7200)
        return run(guest, out=options.out, echo=alone, each_line=progress, stop=stop)

    result = run_but([])
    done = passed(result.stdout) if result.is_emulations_fault else None
    if done is None:
        return result
    cache.say(f"{kernel.name:5} {result.error}: a fault of the emulation; the files that have not passed run once more")
    return run_but(done)


def passed(output: str) -> list[str] | None:
    """Return the test files that pytest had finished when it was cut off; None if a test had failed."""
    if re.search(r"^(tests/\S+ )?[.sxX]*[FE][.sxXFE]* *(\[ *\d+%\])?$", output, re.MULTILINE):
        return None
    return re.findall(r"^(tests/kernel/\w+\.py) ", output, re.MULTILINE)[:-1]


def _guest(kernel: Kernel, command: str | None, options: argparse.Namespace, timeout: float | None) -> Guest:
    return Guest(
        kernel,
        command,
        smp=options.smp,
        memory_mb=options.mem,
        timeout=options.timeout or timeout,
        bare=options.bare,
    )


def _complain(result: Result) -> None:
    if result.error:
        for line in result.console.splitlines()[-40:]:
            print(f"  {line}", file=sys.stderr)
        print(f"vmtest: Linux {result.kernel.name}: {result.error}; the console: {result.log}", file=sys.stderr)


if __name__ == "__main__":
    run_main("vmtest", main)
