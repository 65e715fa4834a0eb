"""Every pair of flags is taken, or refused by one line that names both."""

from __future__ import annotations

from itertools import combinations

import pytest

from pwru.cli.flags import FLAGS
from pwru.cli.options import parse
from tests.support.pairs import ALONE, BACKENDS, NEEDS, REFUSED, WORDS, covering, pairs

VALUES = {"folder": "/run", "pid": "1", "comm": "init", "netns": "/proc/1/ns/net"}


def test_the_table_is_complete() -> None:
    flags = {flag.name for flag in FLAGS}
    assert {name.partition(" ")[0] for name in WORDS} | ALONE == flags


@pytest.mark.parametrize("one", WORDS)
def test_taken_or_refused(one: str, capsys: pytest.CaptureFixture[str]) -> None:
    for first, second in combinations(WORDS, 2):
        if one != first or {first, second} <= set(BACKENDS):
            continue
        needed = [NEEDS[name] for name in (first, second) if name in NEEDS and name not in BACKENDS]
        words = [WORDS[name].format_map(VALUES) for name in dict.fromkeys((*needed, first, second))]
        refused = None
        try:
            parse(words)
        except SystemExit as exit_:
            refused = exit_.code
        (*_, line) = ["", *capsys.readouterr().err.splitlines()]
        if frozenset((first, second)) not in REFUSED:
            assert refused is None, line
            continue
        assert refused == 2, words
        names = {name.partition(" ")[0] for name in (*needed, first, second)}
        assert sum(name in line for name in names) >= 2, line


def test_sets_cover_all_pairs() -> None:
    """And nothing is in them that does not go together."""
    covered = set()
    for names in covering(WORDS, 12):
        assert not {frozenset(pair) for pair in combinations(names, 2)} & REFUSED
        assert sum(name in BACKENDS for name in names) <= 1
        assert all(NEEDS[name] in names for name in names if name in NEEDS)
        covered |= pairs(names)
    assert covered == pairs(WORDS)
