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
    btf_id: int
    module: str | None
    ambiguous: bool

    @property
    def has_reason(self) -> bool:
        """A drop reason is the argument after the skb: one elsewhere is not looked at."""
        return self.reason_arg == self.skb_arg + 1


class Targets(NamedTuple):
    """What can be probed, and the names of what cannot, by cause in words."""

    found: list[Target]
    skipped: dict[str, list[str]]

    def moved(self, by: int) -> Targets:
        """The same where the code is at other addresses."""
        return Targets([target._replace(address=target.address + by) for target in self.found], self.skipped)


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
    functions: Iterable[Function], kallsyms: Kallsyms, max_arg: int = 5, module: str | None = None
) -> Targets:
    """The functions whose skb is one of the first `max_arg` arguments.

    `functions` are of vmlinux's BTF, or of that of `module`.
    """
    skipped: dict[str, list[str]] = {}
    by_name: dict[str, Function] = {}
    different = set()
    for function in functions:
        if by_name.setdefault(function.name, function)[2:] != function[2:]:  # skb_arg, double_pointer, reason_arg
            different.add(function.name)
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
            _, btf_id, skb_arg, double_pointer, reason_arg = function
            found += [
                Target(symbol, at, skb_arg, reason_arg, double_pointer, btf_id, module, len(addresses) > 1)
                for at in addresses
            ]
    if missing:
        skipped["the compiler left only parts of it"] = sorted(missing)
    return Targets(found, skipped)


def union(parts: Iterable[Targets]) -> Targets:
    """Those of vmlinux and of modules as one; where the compiler made one of equal functions, its first name counts."""
    found: dict[int, Target] = {}
    skipped: dict[str, list[str]] = {}
    for part in parts:
        for target in part.found:
            found.setdefault(target.address, target)
        for cause, names in part.skipped.items():
            skipped.setdefault(cause, []).extend(names)
    return Targets(list(found.values()), skipped)


def select(targets: Targets, filter_func: str | None) -> Targets:
    """Those whose whole name, as the source has it, matches --filter-func; that may be none."""
    if filter_func is None:
        return targets
    matches = compile_filter_func(filter_func).fullmatch
    found = [target for target in targets.found if matches(source_name(target.name) or target.name)]
    skipped = {
        cause: chosen
        for cause, names in targets.skipped.items()
        if (chosen := [name for name in names if matches(source_name(name) or name)])
    }
    return Targets(found, skipped)


def nothing_left(targets: Targets, filter_func: str | None) -> PwruError:
    """Why select() found nothing to probe: no name matches, with near ones, or what becomes of those that do."""
    skipped = select(targets, filter_func).skipped
    if filter_func is not None and not skipped:
        names = [target.name for target in targets.found] + [name for part in targets.skipped.values() for name in part]
        return _no_match(filter_func, [source_name(name) or name for name in names], "function")
    causes = (f"{', '.join(names[:3])}{', …' * (len(names) > 3)}: {cause}" for cause, names in skipped.items())
    whose = "" if filter_func is None else f"--filter-func {filter_func}: "
    return PwruError(f"{whose}no function is left to probe ({'; '.join(causes)})")


def drop_notrace(targets: Targets, tracefs: Path | None = None, kcore: str = ftrace.KCORE) -> Targets:
    """Without the functions whose entry ftrace cannot patch; `targets` itself if that is not to be found out.

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
    return Targets(found, {**targets.skipped, cause: bad} if bad else targets.skipped)


def matching(filter_func: str, names: Collection[str], what: str) -> list[str]:
    """The names that match as a whole. Raises PwruError, with near names, if none does; `what` says what they name."""
    matches = compile_filter_func(filter_func).fullmatch
    found = [name for name in names if matches(name)]
    if not found:
        raise _no_match(filter_func, names, what)
    return found


def _no_match(filter_func: str, names: Collection[str], what: str) -> PwruError:
    from difflib import get_close_matches

    search = compile_filter_func(filter_func).search
    near = [name for name in names if search(name)][:3] or get_close_matches(filter_func, names, n=3)
    hint = f" (the whole name has to match); near it: {', '.join(near)}" if near else ""
    return PwruError(f"--filter-func {filter_func}: matches no {what} with an skb argument{hint}")
