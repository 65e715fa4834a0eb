"""The command line: boots each kernel, has `bench.measure` run there, and makes tables of what it found."""

import argparse
import datetime
import json
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import native
from bench.tables import markdown, middle, shown
from vmtest.command import run_main
from vmtest.guest import Guest, run
from vmtest.kernels import Kernel, find

Rows = dict[str, dict[str, list[Any]]]
RESULTS = {"all": Path(__file__).with_name("RESULTS.md"), "starts": Path(__file__).with_name("STARTS.md")}
HOURS_2 = 7200.0
INTRODUCTION = """\
# pwru against the Go tool of the same name

Made by `{command}` on {date}.
"""
GUESTS = """
Each table of a kernel is one boot of it, in which Debian's `pwru` (Go) and this one take turns with the same pcap
filters and the same traffic: UDP packets of 64 bytes, sent with sendmmsg(2) through a veth pair into a network
namespace, to a socket that is full, so that each takes the same way; a burst is {packets} of them. **Guests are
emulated in software, many times slower than a machine: only the ratios count.** Values are medians of *n*, where it
differs from left to right; *empty* is a program that does nothing, attached as ours is, *loads* one that does only
what no filter on addresses can do without (`bench/floor.py`). A rate is sustained when 99 % of the lines are there a
tenth of the time later.
"""
INSTRUCTIONS = """\
## Instructions a hit

How many instructions the CPU executes in the program for a probe hit, counted by QEMU (`-icount`): free of noise.
*loads* is what no filter on addresses can do without (`bench/floor.py`).

"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="of vmtest's kernels (default: all)")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="how often each is measured (default: once; 3 starts, if they are fast)"
    )
    parser.add_argument("--packets", type=int, default=500, metavar="N", help="packets of a burst (default: 500)")
    parser.add_argument("--write", action="store_true", help="also write bench/RESULTS.md, or bench/STARTS.md")
    parts = parser.add_mutually_exclusive_group()
    parts.set_defaults(part="all")
    for name, what in (
        ("starts", "how they start, end and take memory"),
        ("hits", "what a hit takes that does not match"),
        ("instructions", "how many instructions a hit takes, the same each time"),
        ("native", "how fast events become lines, on this machine itself"),
    ):
        parts.add_argument(f"--{name}", dest="part", action="store_const", const=name, help=f"only {what}")
    options = parser.parse_args(arguments)
    if options.write and options.part not in RESULTS:
        parser.error(f"--write keeps all, or --starts, and not --{options.part} alone")

    report = INTRODUCTION.format(command=shlex.join(["python", "-m", "bench", *arguments]), date=datetime.date.today())
    if options.part in RESULTS:
        report += GUESTS.format(packets=options.packets)
    print(report, flush=True)
    for section in sections(options.part, find(options.kernels or ["all"]), options.packets, options.runs):
        print(section, flush=True)
        report += f"\n{section}"
        if options.write:  # what takes so long is kept as it comes
            RESULTS[options.part].write_text(report)
    return 0


def sections(part: str, kernels: list[Kernel], packets: int, runs: int | None) -> Iterator[str]:
    """Raises VmtestError when something failed in a guest."""
    if part in ("all", "starts", "hits"):
        for kernel in kernels:
            yield side_by_side(kernel, part, packets, runs)
    if part in ("all", "instructions"):
        yield INSTRUCTIONS + instructions(kernels, packets)
    if part in ("all", "native"):
        yield native.section()


def side_by_side(kernel: Kernel, which: str, packets: int, runs: int | None) -> str:
    load = os.getloadavg()[0]
    found = measure(kernel, which, packets, runs)
    return (
        f"## Linux {kernel.name}\n\nLinux {found['release']}, 2 CPUs; the Go tool is {found['theirs']}, "
        f"this one {found['ours']}. Load average of the host: {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after.\n\n"
    ) + table(dict(with_ratios(found["rows"])))


def instructions(kernels: list[Kernel], packets: int) -> str:
    lines = [
        ["", "empty", "loads", "Go tool, no match", "pwru, no match", "ratio", "Go tool, match", "pwru, match", "ratio"]
    ]
    for kernel in kernels:
        fast = "kprobe-multi" in kernel.backends  # elsewhere the Go tool takes many minutes to start
        rows = measure(kernel, "instructions" if fast else "instructions of ours", packets, None, icount=True)["rows"]
        floors = (rows["no match"].get(tool) for tool in ("empty", "loads"))
        line = [f"Linux {kernel.name}", *(shown(middle(found)) if found else "" for found in floors)]
        for by_tool in rows.values():
            values = {tool: middle(found) for tool, found in by_tool.items()}
            line += [shown(values.get("Go tool", "")), shown(values["pwru"]), ratio(values)]
        lines.append(line)
    return markdown(lines)


def measure(kernel: Kernel, which: str, packets: int, runs: int | None, icount: bool = False) -> dict[str, Any]:
    """What `bench.measure` found in a guest."""
    print(f"bench: Linux {kernel.name}", file=sys.stderr)
    command = ["python3", "-m", "bench.measure", which, str(packets), *([str(runs)] if runs else [])]
    with tempfile.TemporaryDirectory() as out:
        guest = Guest(kernel, shlex.join(command), timeout=HOURS_2, icount=icount)
        run(guest, out=Path(out), echo=True).check()
        found: dict[str, Any] = json.loads(Path(out, "measured.json").read_text())
    return found


def with_ratios(rows: Rows) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """The starts first; what a hit takes is followed by how often that of the program that does nothing it is."""
    for label, by_tool in sorted(rows.items(), key=lambda row: not row[0].startswith("start →")):
        yield label, by_tool
        if label.startswith("ns a hit"):
            floor = statistics.median(rows["ns a hit, no match"]["empty"])
            tools = [tool for tool in by_tool if tool not in ("empty", "loads")]
            yield f"{label} / empty", {tool: [ns / floor for ns in by_tool[tool]] for tool in tools}


def table(rows: Rows) -> str:
    """`rows` is the result of bench.measure."""
    lines = [["", "Go tool", "pwru", "pwru / Go tool", "empty", "loads", "n"]]
    for label, by_tool in rows.items():
        values = {tool: middle(found) for tool, found in by_tool.items()}
        cells = {tool: shown(value) for tool, value in values.items()}
        cells |= {"ratio": ratio(values), "n": ", ".join(dict.fromkeys(str(len(found)) for found in by_tool.values()))}
        lines.append(
            [label, *(cells.get(column, "") for column in ("Go tool", "pwru", "ratio", "empty", "loads", "n"))]
        )
    return markdown(lines)


def ratio(values: dict[str, float | str]) -> str:
    ours, theirs = values.get("pwru"), values.get("Go tool")
    return f"{ours / theirs:.3f}" if isinstance(ours, float) and isinstance(theirs, float) and theirs else ""


if __name__ == "__main__":
    run_main("bench", main)
