"""The README's table of kernels and backends, made from the list of kernels."""

from pathlib import Path

from pwru.live.backends import BACKENDS
from vmtest.errors import VmtestError
from vmtest.kernels import KERNELS

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- made by `make support`, from vmtest/kernels.py -->\n", "<!-- end -->\n"


def table() -> str:
    """A row for each kernel, a column for each backend, best first; in Markdown."""
    rows = [
        ["Linux", "of", *(f"`{name}`" for name in BACKENDS)],
        [*["---"] * 2, *[":-:"] * len(BACKENDS)],
    ]
    for kernel in KERNELS:
        marks = ["✓" if name in kernel.backends else "no" for name in BACKENDS]
        rows.append([kernel.title, kernel.release, *marks])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def put(text: str) -> str:
    """The README's text with the table between its markers as it has to be. Raises VmtestError when they are gone."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise VmtestError(f"{README.name} lacks the markers of its table of kernels: {BEGIN.strip()} … {END.strip()}")
    return before + begin + table() + end + after
