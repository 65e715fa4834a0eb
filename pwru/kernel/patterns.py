"""The regular expression of `functions`, which must come to an end.

Python's re tries all ways in which a pattern can match, and nothing interrupts it while it does: with a repeat in a
repeat there may be more than anybody can wait for. Such patterns are refused, and others are given a second.
"""

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pwru.errors import PwruError

_NAME = 64  # characters: as long as names of functions are
_WAYS = 1 << 28  # to match one name, which take a second; `.*` four times has 18 million
_FEW_WAYS = 1 << 16  # fast enough, whatever the names are
_SECONDS = 1.0
_QUOTED = 200  # characters of an expression in a message
# A tree of re._parser: a list of pairs of an operation and its argument, which may have more trees in it.
_Tree = Any
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


class NamePattern:
    """Matches names of functions; if that is slow, for a second at most: after that the methods raise PwruError."""

    def __init__(self, expression: str) -> None:
        """Raises PwruError with the message of re and the place in the expression, and for one that may not end."""
        self._quoted = expression if len(expression) <= _QUOTED else f"{expression[:_QUOTED]}…"
        try:
            with warnings.catch_warnings():
                # Python warns about syntax that may change its meaning, such as [[:digit:]], which is a mere set here.
                warnings.simplefilter("error", FutureWarning)
                self._pattern = re.compile(expression)
                self._ways = _ways(re._parser.parse(expression))  # type: ignore[attr-defined]
        except re.error as error:
            place = "" if error.pos is None else f" at character {error.pos + 1}"
            raise self._error(f"{error.msg}{place}") from None
        except (FutureWarning, OverflowError) as error:
            raise self._error(str(error)) from None
        except RecursionError:
            raise self._error("its parentheses are nested too deep") from None
        if self._ways >= _WAYS:
            raise self._error("too many repeats, or one inside another: matching might never end; use fewer")
        self._end = time.thread_time() + _SECONDS

    def fullmatch(self, name: str) -> bool:
        return self._in_time(self._pattern.fullmatch(name))

    def search(self, name: str) -> bool:
        """Return whether a part of the name matches; False if it would take long to know."""
        return self._ways <= _FEW_WAYS and self._pattern.search(name) is not None

    def _in_time(self, match: object) -> bool:
        if self._ways > _FEW_WAYS and time.thread_time() > self._end:
            raise self._error(f"takes more than {_SECONDS:.0f} s to match; use fewer repeats")
        return match is not None

    def _error(self, reason: str) -> PwruError:
        return PwruError(f"`functions` {self._quoted}: {reason}")


def _ways(tree: _Tree) -> int:
    """Return in how many ways a pattern can match a name, at most; _WAYS is more than that, too."""
    ways = 1
    for operation, argument in tree:
        if str(operation) in _REPEATS:
            ways *= _repeated(*argument)
        elif str(operation) == "BRANCH":
            ways *= _branches(argument[1])
        else:
            for part in _trees(argument):
                ways *= _ways(part)
        ways = min(ways, _WAYS)
    return ways


def _repeated(least: int, most: int, body: _Tree) -> int:
    most = min(most, _NAME)
    ways, (shortest, longest) = _ways(body), body.getwidth()
    if ways == 1 and shortest == longest:
        return max(most - least, 0) + 1
    return int(ways**most) + max(most - least, 0)


def _branches(trees: Sequence[_Tree]) -> int:
    """Only one of several that begin with different characters can match."""
    starts = {chr(tree[0][1]).lower() for tree in trees if tree and str(tree[0][0]) == "LITERAL"}
    each = [_ways(tree) for tree in trees]
    return max(each) if len(starts) == len(trees) else sum(each)


def _trees(argument: object) -> Iterator[_Tree]:
    if hasattr(argument, "getwidth"):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _trees(part)
