"""The import budget: each module costs every start a fraction of a millisecond, on a slow machine several."""

import pytest

from tests.support.imports import TRACE, modules

# They have cost more than all the rest, and are for flags that few use.
EXPENSIVE = {"argcomplete", "elftools", "libpcap", "logging", "pcap", "tqdm", "typing_extensions", "zipfile"}


@pytest.mark.parametrize(
    ("code", "own", "others"),
    [("import pwru", 1, 30), ("import pwru.cli", 20, 40), (TRACE, 82, 72)],
    ids=["import pwru", "command line", "trace"],
)
def test_how_many(code: str, own: int, others: int) -> None:
    imported = modules(code)
    of_pwru = {name for name in imported if name.partition(".")[0] == "pwru"}
    assert len(of_pwru) <= own, sorted(of_pwru)
    assert len(imported - of_pwru) <= others, sorted(imported - of_pwru)


def test_what_is_expensive_is_left_for_who_needs_it() -> None:
    assert not {name.partition(".")[0] for name in modules(TRACE)} & EXPENSIVE
