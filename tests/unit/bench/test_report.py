"""Reports are made as a whole, and those in bench/results are as the code makes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bench
from bench import report
from bench.tables import markdown
from vmtest.kernels import KERNELS

RESULTS = Path(bench.__file__).with_name("results")
MEASURED = {"release": "6.12.1", "theirs": "1.0.5", "ours": "0.1.0"}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_medians_and_ratios_without_empty_columns() -> None:
    rows: report.Rows = {
        "ns per hit, no match": {"Go tool": [800, 900, 700], "pwru": [100.0], "empty": [50]},
        "start → ready, s": {"pwru": [2.5]},
    }
    assert report.table(dict(report.with_ratios(rows))) == (
        "|                              | Go tool | pwru | pwru / Go tool | empty |    n |\n"
        "| ---------------------------- | ------: | ---: | -------------: | ----: | ---: |\n"
        "| start → ready, s             |         |  2.5 |                |       |    1 |\n"
        "| ns per hit, no match         |     800 |  100 |          0.125 |    50 | 3, 1 |\n"
        "| ns per hit, no match / empty |      16 |    2 |          0.125 |       | 3, 1 |\n"
    )


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_what_is_kept_is_as_the_code_makes_it(path: Path) -> None:
    text = path.read_text()
    made = re.search(r"^Measured by `(.*)` on (\S+);", text, re.MULTILINE)
    assert made
    heading = report.Heading(made[1], made[2])
    if path.stem == "native":
        assert text.startswith(heading.of("Natively: from records to lines"))
    else:
        about = re.search(r"^Linux (\S+),.* Go tool (\S+), pwru (\S+); .* ([\d.]+) before, ([\d.]+) after", text, re.M)
        assert about
        measured = dict(zip(MEASURED, about.groups()[:3], strict=True))
        load = float(about[4]), float(about[5])
        above = heading.of(f"Linux {path.stem}") + report.subject(measured, packets=500, load=load)
        assert text.startswith(above)
        assert f"|\n\n{report.INSTRUCTIONS}|" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        first, _, *others = map(cells, table.splitlines())
        assert markdown([first, *others]) == table
        assert path.stem == "native" or [c for c in report.COLUMNS if c in first] == first[1:]


def test_every_kernel_has_results() -> None:
    assert {path.stem for path in RESULTS.glob("*.md")} == {
        "native",
        *(kernel.name for kernel in KERNELS if kernel.arch == "amd64"),
    }
