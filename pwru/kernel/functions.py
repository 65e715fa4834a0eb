"""Which functions can be probed: by BTF those with a packet among their arguments, by kallsyms those that are there,
by ftrace those whose entry can be patched."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwru.errors import PwruError
from pwru.kernel import features, ftrace
from pwru.kernel.kallsyms import source_name

if TYPE_CHECKING:
    from pwru.kernel.btf import Function
    from pwru.kernel.kallsyms import Kallsyms

BLACKLIST = "/sys/kernel/debug/kprobes/blacklist"


class Target(NamedTuple):
    """One function at one address. Positions are 1-based, `reason_arg` is 0 without one, as in btf.Function.

    `name` is the symbol's, which the compiler may have given a suffix. `ambiguous`: several functions have it, so a
    probe has to be placed by address.
    """

    name: str
    address: int
    skb_arg: int
    reason_arg: int
    double_pointer: bool
    nargs: int
    btf_id: int
    module: str | None
    ambiguous: bool


class Targets(NamedTuple):
    """What can be probed, and the names of what cannot, by cause in words."""

    found: list[Target]
    skipped: dict[str, list[str]]


def compile_filter_func(expression: str) -> re.Pattern[str]:
    """The regular expression of --filter-func, to be used with fullmatch().

    Raises PwruError with re's message and where in the expression it is.
    """
    try:
        with warnings.catch_warnings():
            # Of what may mean something else one day, such as [[:digit:]], which is a set of characters in Python.
            warnings.simplefilter("error", FutureWarning)
            return re.compile(expression)
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos + 1}"
        reason = f"{error.msg}{place}"
    except (FutureWarning, OverflowError) as error:
        reason = str(error)
    raise PwruError(f"--filter-func {expression}: {reason}")


def find_targets(
    functions: Iterable[Function],
    kallsyms: Kallsyms,
    filter_func: str | None = None,
    max_arg: int = 5,
    module: str | None = None,
) -> Targets:
    """The functions whose whole name matches and whose skb is one of the first `max_arg` arguments.

    `functions` are of vmlinux's BTF, or of that of `module`. Raises PwruError if no name matches, with near ones, or
    none of those that match can be probed, with the causes.
    """
    skipped: dict[str, list[str]] = {}
    by_name: dict[str, Function] = {}
    different = set()
    for function in functions:
        if by_name.setdefault(function.name, function)[2:5] != function[2:5]:  # skb_arg, double_pointer, reason_arg
            different.add(function.name)
    if filter_func is not None:
        by_name = {name: by_name[name] for name in matching(filter_func, by_name, "function")}
    symbols = kallsyms.find(by_name, module)
    missing = set(by_name)
    found = []
    for symbol, addresses in symbols.items():
        function = by_name.get(symbol) or by_name[source_name(symbol) or ""]
        missing.discard(function.name)
        if function.skb_arg > max_arg:
            skipped.setdefault(f"the skb is behind argument {max_arg}", []).append(symbol)
        elif function.name in different:
            skipped.setdefault("several functions have this name, the skb in different places", []).append(symbol)
        else:
            _, btf_id, skb_arg, double_pointer, reason_arg, nargs, _ = function
            found += [
                Target(symbol, at, skb_arg, reason_arg, double_pointer, nargs, btf_id, module, len(addresses) > 1)
                for at in addresses
            ]
    if missing:
        skipped["the compiler left only parts of it"] = sorted(missing)
    if filter_func is not None and not found:
        raise PwruError(f"--filter-func {filter_func}: {_causes(skipped)}")
    return Targets(found, skipped)


def drop_notrace(targets: Targets, tracefs: Path | None = None, kcore: str = ftrace.KCORE) -> Targets:
    """Without the functions whose entry ftrace cannot patch; all of them if that is not to be found out.

    Raises PwruError if none is left.

    Those are marked notrace, as `inline` ones are that were not inlined. No way of attaching takes them: kprobes do
    not since v4.20 (commit 45408c4f9250 ("tracing: kprobes: Prohibit probing on notrace function")).
    """
    good = ftrace.traceable(
        [(target.name, target.address) for target in targets.found], tracefs or features.tracefs(), kcore
    )
    return targets if good is None else _split(targets, lambda target: target.address in good, "it is notrace")


def drop_blacklisted(targets: Targets, path: str = BLACKLIST) -> Targets:
    """Without the functions that kprobes must not be in, if that list (debugfs) can be read.

    Lines are "0xSTART-0xEND\tNAME": kprobe_blacklist_seq_show() in kernel/kprobes.c.
    """
    try:
        text = Path(path).read_text()
    except OSError:
        return targets
    names = {line.split()[1] for line in text.splitlines() if line}
    return _split(targets, lambda target: target.name not in names, "kprobes are not allowed in it")


def _split(targets: Targets, good: Callable[[Target], bool], cause: str) -> Targets:
    bad = [target.name for target in targets.found if not good(target)]
    found = [target for target in targets.found if good(target)]
    if bad and not found:
        raise PwruError(_causes({cause: bad}))
    return Targets(found, {**targets.skipped, cause: bad} if bad else targets.skipped)


def _causes(skipped: dict[str, list[str]]) -> str:
    causes = (f"{', '.join(names[:3])}{', …' * (len(names) > 3)}: {cause}" for cause, names in skipped.items())
    return f"no function is left to probe ({'; '.join(causes)})"


def matching(filter_func: str, names: Collection[str], what: str) -> list[str]:
    """The names that match as a whole. Raises PwruError, with near names, if none does; `what` says what they name."""
    pattern = compile_filter_func(filter_func)
    found = [name for name in names if pattern.fullmatch(name)]
    if not found:
        from difflib import get_close_matches

        near = [name for name in names if pattern.search(name)][:3] or get_close_matches(filter_func, names, n=3)
        hint = f" (the whole name has to match); near it: {', '.join(near)}" if near else ""
        raise PwruError(f"--filter-func {filter_func}: matches no {what} with an skb argument{hint}")
    return found
