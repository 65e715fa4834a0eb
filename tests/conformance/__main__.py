"""Boot each kernel, have both tools trace the same traffic there, and make a report of the differences."""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.tables import markdown
from tests.conformance.compare import RULES, Result, compare, ours, theirs
from tests.conformance.flags import FLAGS
from tests.conformance.traffic import PCAP_FILTER, TRAFFIC
from vmtest.command import run_main
from vmtest.guest import Guest, run
from vmtest.kernels import Kernel, find

REPORT = Path(__file__).parent.parent / "CONFORMANCE.md"
KERNELS = ("6.12", "6.18", "7.2")  # where the Go tool starts in seconds
INTRODUCTION = """\
# pwru and the Go tool of the same name, side by side

Made by `{command}` on {date}.

In a guest with one CPU, Debian's `pwru` (Go) and this one trace the same traffic at the same time, with the pcap
filter `{pcap}`: {traffic}; by IPv4 and by IPv6.
A packet is matched by its skb's address, its events by function and order. Each event of the Go tool must be here, too,
with the same values. Debian's version has an old layout of columns and no JSON; our JSON is compared with its text. An
additional event, or another value, is counted for the rule that explains it.
"""
SHOWN = 40  # unexplained differences per set of flags


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "kernels", nargs="*", metavar="KERNEL", help=f"names from vmtest --list (default: {' '.join(KERNELS)})"
    )
    parser.add_argument("--write", action="store_true", help="also write tests/CONFORMANCE.md")
    options = parser.parse_args(arguments)
    report = INTRODUCTION.format(
        command=shlex.join(["python", "-m", "tests.conformance", *arguments]),
        date=datetime.date.today(),
        pcap=PCAP_FILTER,
        traffic=", ".join(TRAFFIC),
    )
    explained: Counter[str] = Counter()
    unexplained = 0
    for kernel in find(options.kernels or list(KERNELS)):
        section, results = judge(found_in(kernel))
        report += f"\n## Linux {kernel.name}\n\n{section}"
        for name, result in results.items():
            explained += result.explained
            unexplained += len(result.unexplained)
            for line in result.unexplained[:SHOWN]:
                print(f"{kernel.name}: {name}: {line}", file=sys.stderr)
    lines = [["rule", "differences"], *([RULES[rule], str(count)] for rule, count in explained.most_common())]
    report += f"\n## What differs\n\n{markdown(lines)}\nNot explained: {unexplained}.\n"
    print(report)
    if options.write:
        REPORT.write_text(report)
    return 1 if unexplained else 0


def found_in(kernel: Kernel) -> dict[str, Any]:
    """Return what `tests.conformance.guest` found."""
    with tempfile.TemporaryDirectory() as out:
        guest = Guest(kernel, "python3 -m tests.conformance.guest", smp=1, timeout=900)
        run(guest, out=Path(out), echo=True).check()
        found: dict[str, Any] = json.loads(gzip.decompress(Path(out, "found.json.gz").read_bytes()))
    return found


def judge(found: dict[str, Any]) -> tuple[str, dict[str, Result]]:
    """Return the report of one kernel, and the results by flags."""
    lines = [["flags", "skbs", "events of theirs", "events of ours", "values", "differ by a rule", "unexplained"]]
    left_out = ""
    results = {}
    for flags in FLAGS:
        run = found["runs"][flags.name]
        if missing := run.get("missing"):
            left_out += f"Left out: {flags.name}: {missing}.\n"
            continue
        left, right = list(theirs(run["theirs"])), list(ours(run["ours"], flags.columns, flags.format))
        result = results[flags.name] = compare(left, right, flags.columns, found["signatures"])
        if not left:
            result.unexplained.append("the Go tool printed nothing")
        numbers = (result.packets, result.events, len(right), result.values, result.explained.total())
        lines.append([flags.name, *map(str, (*numbers, len(result.unexplained)))])
    versions = f"Linux {found['release']}; the Go tool is {found['theirs']}, this one {found['ours']}.\n\n"
    return versions + markdown(lines) + (f"\n{left_out}" if left_out else ""), results


if __name__ == "__main__":
    run_main("conformance", main)
