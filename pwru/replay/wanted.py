"""Which events of a recording are wanted: the filters of a live trace, on what was recorded.

Filters look at distinct values of the columns, not at events, and know the answer for those of before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pwru.filter.packet import Filter
from pwru.record.memo import Memo
from pwru.record.parts import Meta
from pwru.record.shown import check_recorded
from pwru.replay.moments import Span

if TYPE_CHECKING:
    from pwru.record.columns import Columns
    from pwru.record.names import Names
    from pwru.record.schema import Schema

_CACHED = 1 << 14  # answers of one filter
Test = Callable[[Any], bool]


class Wanted(NamedTuple):
    """Every default means "no such condition".

    A packet must match `filter`, `netns` (a number or a name of the recording, or a path), `ifname`, `mark` under
    `mark_mask`, `skb_expr`, `pid` and `comm`. With `follow` it is wanted from there on, whatever becomes of it;
    otherwise each event has to match. Of these events those are wanted with the numbers `packets`, in the functions
    whose whole name matches `functions`, that are drops for one of `drop_reasons`, and within the `span` of
    time.
    """

    filter: Filter = Filter()
    netns: str | None = None
    ifname: str | None = None
    mark: int = 0
    mark_mask: int = 0
    skb_expr: str | None = None
    pid: int = 0
    comm: str | None = None
    follow: bool = False
    packets: frozenset[int] = frozenset()
    functions: str | None = None
    drop_reasons: tuple[str, ...] = ()
    span: Span = Span()


Asked = tuple[tuple[str, ...], Memo[Any, bool]]


class Tests:
    """The tests of one recording: each with the columns that it looks at, and its answers for their values."""

    def __init__(self, wanted: Wanted, schema: Schema, names: Names, programs: Sequence[Test]) -> None:
        """`programs`: what the packet filter says of a part `payload`. Raises PwruError for what was not recorded."""
        self._schema, self._names = schema, names
        self._generation = names.generation
        self.matches: list[Asked] = []
        self.shows: list[Asked] = []
        if programs:
            check_recorded(schema, "payload")
            self._add("details", lambda raw: all(program(schema.details(raw)["payload"]) for program in programs))
        if wanted.netns is not None or wanted.ifname is not None or wanted.mark_mask:
            check_recorded(schema, "meta")
            self._add("packet", partial(self._meta, wanted))
        if wanted.pid or wanted.comm is not None:
            self._add("task", partial(self._task, wanted))
        if wanted.skb_expr is not None:
            from pwru.replay.expression import ExpressionTest

            test = ExpressionTest(wanted.skb_expr, schema)
            self.matches.append((test.columns, Memo(test, _CACHED)))
        if wanted.functions is not None or wanted.drop_reasons:
            self.shows.append((("hit",), Memo(self._function_test(wanted), _CACHED)))

    def _add(self, column: str, test: Test) -> None:
        self.matches.append(((column,), Memo(test, _CACHED)))

    def refresh(self) -> None:
        """Forget what may have become wrong: names have changed."""
        if self._generation != self._names.generation:
            self._generation = self._names.generation
            for _, answers in (*self.matches, *self.shows):
                answers.clear()

    def _meta(self, wanted: Wanted, raw: bytes) -> bool:
        meta: Meta = self._schema.packet(raw)["meta"]
        if wanted.mark_mask and (meta.mark ^ wanted.mark) & wanted.mark_mask:
            return False
        if wanted.ifname is not None and wanted.ifname not in (meta.ifname, f"{meta.ifname}:{meta.ifindex}"):
            return wanted.ifname == str(meta.ifindex)
        return wanted.netns is None or self._is_netns(wanted.netns, meta.netns)

    def _is_netns(self, spec: str, inode: int) -> bool:
        number = spec.removeprefix("inode:")
        if number.isdecimal():
            return int(number) == inode
        name = self._names.netns().get(inode)
        if name is not None and name in (spec, os.path.basename(spec)):
            return True
        try:
            return os.stat(spec).st_ino == inode if "/" in spec else False
        except OSError:
            return False

    def _task(self, wanted: Wanted, raw: bytes) -> bool:
        task = self._schema.task(raw)
        if wanted.pid and task.pid != wanted.pid:
            return False
        return wanted.comm is None or wanted.comm in (task.comm, f"{task.comm}:{task.pid}")

    def _function_test(self, wanted: Wanted) -> Test:
        pattern = None
        if wanted.functions is not None:
            from pwru.kernel.patterns import NamePattern

            pattern = NamePattern(wanted.functions)
        words = {word.upper() for word in wanted.drop_reasons}

        def test(raw: bytes) -> bool:
            function = self._names.function(self._schema.hit(raw))
            plain = function.plain
            if pattern and not any(map(pattern.fullmatch, {plain, plain.partition("[")[0]})):
                return plain == wanted.functions
            return not words or (function.drops and is_reason(function.reason, words))

        return test


def is_reason(reason: str, words: set[str]) -> bool:
    """Return whether a reason is one of these: its name, the name without SKB_DROP_REASON_, its subsystem, or ANY."""
    short = re.sub("^SKB_DROP_REASON_", "", reason.upper())
    subsystem = short.partition("/")[0].partition("_")[0]
    return bool(words & {"ANY", short, reason.upper(), subsystem})


def masks(columns: Columns, tests: Sequence[Asked]) -> list[bool] | None:
    """Return whether each event of a chunk passes all tests; None if there are none."""
    if not tests:
        return None
    each = []
    for names, answers in tests:
        if len(names) > 1:
            values = zip(*(columns.columns[name].each(columns.events) for name in names), strict=True)
            each.append(list(map(answers.__getitem__, values)))
            continue
        column = columns.columns[names[0]]
        said = list(map(answers.__getitem__, column.values))
        each.append(list(map(said.__getitem__, column.indices)) if column.indices else said)
    return each[0] if len(each) == 1 else list(map(all, zip(*each, strict=True)))
