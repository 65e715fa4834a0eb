"""The README's table of kernels and backends, generated from the list of kernels."""

from pathlib import Path

from pwru.live.backends import BACKENDS
from vmtest.errors import VmtestError
from vmtest.kernels import KERNELS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- made by `make support`, from vmtest/kernels.py -->\n", "<!-- end -->\n"


def table() -> str:
    """Return a Markdown table with one row per kernel and one column per backend, best first."""
    rows = [
        ["Linux", "of", *(f"`{name}`" for name in BACKENDS)],
        [*["---"] * 2, *[":-:"] * len(BACKENDS)],
    ]
    for kernel in KERNELS:
        marks = ["✓" if name in kernel.backends else "no" for name in BACKENDS]
        rows.append([kernel.title, kernel.release, *marks])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def put(text: str) -> str:
    """Return the README's text with the current table between its markers. Raises VmtestError if they are missing."""
    before, begin, from_table = text.partition(BEGIN)
    _, end, after = from_table.partition(END)
    if not end:
        raise VmtestError(f"{README.name} lacks the markers of its table of kernels: {BEGIN.strip()} … {END.strip()}")
    return before + begin + table() + end + after
