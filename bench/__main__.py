"""The command line: boots each kernel, has `bench.measure` run there, and makes tables of what it found."""

import argparse
import datetime
import json
import os
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import vmtest
from pwru.errors import PwruError

RESULTS = {"all": Path(__file__).with_name("RESULTS.md"), "starts": Path(__file__).with_name("STARTS.md")}
HOURS_2 = 7200.0
INTRODUCTION = """\
# pwru against the Go tool of the same name

Made by `{command}` on {date}.

Each table is one boot of one kernel, in which Debian's `pwru` (Go) and this one take turns with the same pcap filters
and the same traffic: a burst of {packets} UDP packets through a veth pair into a network namespace. **Guests are
emulated in software, many times slower than a machine: only the ratios count.** Values are medians of {runs} runs, or
of as many as in brackets; *empty* is a program that does nothing, attached as ours is.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="of vmtest's kernels (default: all)")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="how often each is measured (default: 3, and 1 for what takes a minute)"
    )
    parser.add_argument("--packets", type=int, default=500, metavar="N", help="packets of a burst (default: 500)")
    parser.add_argument("--starts", action="store_true", help="measure only how they start, end and take memory")
    parser.add_argument("--write", action="store_true", help="also write bench/RESULTS.md, or bench/STARTS.md")
    options = parser.parse_args(arguments)
    which = "starts" if options.starts else "all"

    report = INTRODUCTION.format(
        command=shlex.join(["python", "-m", "bench", *arguments]),
        date=datetime.date.today(),
        packets=options.packets,
        runs=options.runs or 3,
    )
    print(report, flush=True)
    for kernel in vmtest.find(options.kernels or ["all"]):
        section = measure(kernel, which, options.runs, options.packets)
        print(section, flush=True)
        report += f"\n{section}"
    if options.write:
        RESULTS[which].write_text(report)
    return 0


def measure(kernel: vmtest.Kernel, which: str, runs: int | None, packets: int) -> str:
    """The section of one kernel. Raises PwruError when something failed in the guest."""
    load = os.getloadavg()[0]
    print(f"bench: Linux {kernel.name}", file=sys.stderr)
    command = ["python3", "-m", "bench.measure", which, str(packets), *([str(runs)] if runs else [])]
    with tempfile.TemporaryDirectory() as out:
        vmtest.run(kernel, shlex.join(command), out=Path(out), timeout=HOURS_2, echo=True).check()
        found = json.loads(Path(out, "measured.json").read_text())
    return (
        f"## Linux {kernel.name}\n\nLinux {found['release']}, 2 CPUs; the Go tool is {found['theirs']}, "
        f"this one {found['ours']}. Load average of the host: {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after.\n\n"
    ) + table(found["rows"], runs or 3)


def table(rows: dict[str, dict[str, list[Any]]], runs: int) -> str:
    """Markdown, aligned so that it reads well as text, too; `rows` is the result of bench.measure."""
    lines = [["", "Go tool", "pwru", "pwru / Go tool", "empty"]]
    for label, by_tool in rows.items():
        values = {tool: middle(found) for tool, found in by_tool.items()}
        ours, theirs = values.get("pwru"), values.get("Go tool")
        ratio = f"{ours / theirs:.3f}" if isinstance(ours, float) and isinstance(theirs, float) and theirs else ""
        cells = {
            tool: shown(value) + (f" [{len(by_tool[tool])}]" if len(by_tool[tool]) != runs else "")
            for tool, value in values.items()
        }
        lines.append([label, cells.get("Go tool", ""), cells.get("pwru", ""), ratio, cells.get("empty", "")])
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |\n" for line in lines
    )


def middle(values: list[Any]) -> float | str:
    """The median, or of text what was said last."""
    return values[-1] if isinstance(values[-1], str) else float(statistics.median(values))


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except (PwruError, OSError) as error:
        sys.exit(f"bench: {error}")
