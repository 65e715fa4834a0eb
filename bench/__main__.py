"""Boot each kernel, have `bench.measure` run there, and make a report of what it found."""

import argparse
import datetime
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import native, report
from vmtest.command import run_main
from vmtest.guest import Guest, run
from vmtest.kernels import Kernel, find

RESULTS = Path(__file__).with_name("results")
HOURS_2 = 7200.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="names from vmtest --list (default: all)")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="times to measure each (default: 1; 3 for starts, if they are fast)"
    )
    parser.add_argument("--packets", type=int, default=500, metavar="N", help="packets per burst (default: 500)")
    parser.add_argument("--write", action="store_true", help="also write bench/results/KERNEL.md, and native.md")
    parts = parser.add_mutually_exclusive_group()
    parts.set_defaults(part="all")
    for name, what in (
        ("starts", "how pwru starts and ends, and its memory"),
        ("hits", "the cost of a hit that does not match"),
        ("recordings", "what a flood takes and loses when it is recorded, and when it is printed"),
        ("instructions", "the number of instructions per hit, the same each time"),
        ("native", "how fast events become lines, on this machine itself"),
    ):
        parts.add_argument(f"--{name}", dest="part", action="store_const", const=name, help=f"only {what}")
    options = parser.parse_args(arguments)
    if options.write and options.part != "all":
        parser.error(f"--write writes whole reports, not --{options.part} alone")
    for name, text in reports(arguments, options):
        print(text, flush=True)
        if options.write:
            RESULTS.joinpath(f"{name}.md").write_text(text)
    return 0


def reports(arguments: list[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield each report with its name. Raises VmtestError when something failed in a guest."""
    command = shlex.join(["python", "-m", "bench", *arguments])
    heading = report.Heading(command, datetime.date.today().isoformat())
    if options.part != "native":
        for kernel in find(options.kernels or ["all"]):
            yield kernel.name, heading.of(f"Linux {kernel.name}") + "\n".join(sections(kernel, options))
    if options.part in ("all", "native"):
        yield "native", heading.of("Natively: from records to lines") + native.section()


def sections(kernel: Kernel, options: argparse.Namespace) -> Iterator[str]:
    """Yield the tables of one kernel; each is one boot."""
    if options.part != "instructions":
        before = os.getloadavg()[0]
        measured = measure(kernel, options.part, options)
        load = before, os.getloadavg()[0]
        yield (
            report.subject(measured, packets=options.packets, load=load)
            + report.table(dict(report.with_ratios(measured["rows"])))
        )
    if options.part in ("all", "instructions"):
        fast = "kprobe-multi" in kernel.backends  # without it the Go tool takes many minutes to start
        measured = measure(kernel, "instructions" if fast else "instructions of ours", options, icount=True)
        yield report.INSTRUCTIONS + report.table(measured["rows"])


def measure(kernel: Kernel, which: str, options: argparse.Namespace, *, icount: bool = False) -> dict[str, Any]:
    """Return what `bench.measure` found in a guest."""
    print(f"bench: Linux {kernel.name}", file=sys.stderr)
    command = ["python3", "-m", "bench.measure", which, str(options.packets)]
    if options.runs and not icount:
        command.append(str(options.runs))
    with tempfile.TemporaryDirectory() as out:
        guest = Guest(kernel, shlex.join(command), timeout=HOURS_2, icount=icount)
        run(guest, out=Path(out), echo=True).check()
        measured: dict[str, Any] = json.loads(Path(out, "measured.json").read_text())
    return measured


if __name__ == "__main__":
    run_main("bench", main)
