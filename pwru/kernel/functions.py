"""Functions that can be probed: BTF has those with a packet argument, kallsyms their addresses.

ftrace knows those whose entry can be patched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pwru.errors import PwruError, abbreviate, did_you_mean, near
from pwru.kernel import features, ftrace
from pwru.kernel.btf import Function
from pwru.kernel.kallsyms import Kallsyms, source_name
from pwru.kernel.patterns import NamePattern
from pwru.kernel.printed import as_regex

_BLACKLIST = "/sys/kernel/debug/kprobes/blacklist"
BLACKLISTS = (_BLACKLIST, f"{features.INIT_ROOT}{_BLACKLIST}")


class Target(NamedTuple):
    """One function at one address. Positions are 1-based, and 0 for what it does not have, as in btf.Function.

    `name` is that of the symbol, which the compiler may have given a suffix. `ambiguous`: several functions share it.
    `role`: what it means for packets that are followed (enum role of bpf/pwru.h), or "". `silent`: nobody asked for it.
    `code`: what it is if it has no skb (enum arg_code), or "".
    """

    name: str
    address: int
    skb_arg: int
    reason_arg: int
    double_pointer: bool
    btf_id: int
    module: str | None
    ambiguous: bool
    sock_arg: int = 0
    role: str = ""
    silent: bool = False
    code: str = ""

    @property
    def names(self) -> list[str]:
        """Every name that `functions` may have for it: of the symbol and in the source, also with the module."""
        names = names_of(self.name)
        return [*names, *(f"{name}[{self.module}]" for name in names)] if self.module else names

    @property
    def has_reason(self) -> bool:
        """Return whether the argument after the skb is a drop reason; one elsewhere is ignored."""
        return self.reason_arg == self.skb_arg + 1


def names_of(symbol: str) -> list[str]:
    source = source_name(symbol)
    return [source, symbol] if source else [symbol]


class Targets(NamedTuple):
    """The functions that can be probed, and the names of those that cannot, by cause."""

    found: list[Target]
    skipped: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        """Every name that `functions` may have for any of them."""
        found = [name for target in self.found for name in target.names]
        return found + [name for names in self.skipped.values() for symbol in names for name in names_of(symbol)]

    def moved(self, by: int) -> Targets:
        """Return the same functions at addresses that are higher by `by`."""
        return Targets([target._replace(address=target.address + by) for target in self.found], self.skipped)


def find_targets(
    functions: Iterable[Function], kallsyms: Kallsyms, max_arg: int = 5, module: str | None = None
) -> Targets:
    """Return the functions whose skb is one of the first `max_arg` arguments.

    `functions` are from the BTF of vmlinux, or of `module`.
    """
    skipped: dict[str, list[str]] = {}
    by_name: dict[str, Function] = {}
    conflicting = set()
    for function in functions:
        first = by_name.setdefault(function.name, function)
        if first._replace(btf_id=function.btf_id, sock_arg=function.sock_arg) != function:
            conflicting.add(function.name)
        elif first.sock_arg != function.sock_arg:
            by_name[function.name] = first._replace(sock_arg=0)
    symbols = kallsyms.find(by_name, module)
    missing = set(by_name)
    targets = []
    for symbol, addresses in symbols.items():
        function = by_name.get(symbol) or by_name[source_name(symbol) or ""]
        missing.discard(function.name)
        if function.skb_arg > max_arg:
            skipped.setdefault(f"the skb is behind argument {max_arg}", []).append(symbol)
        elif function.name in conflicting:
            skipped.setdefault("several functions have this name, the skb in different places", []).append(symbol)
        else:
            _, btf_id, skb_arg, double_pointer, reason_arg, sock_arg = function
            arguments = skb_arg, reason_arg, double_pointer
            ambiguous = len(addresses) > 1
            targets += [
                Target(symbol, address, *arguments, btf_id, module, ambiguous, sock_arg) for address in addresses
            ]
    if missing:
        skipped["the compiler left only parts of it"] = sorted(missing)
    return Targets(targets, skipped)


def find_plain(names: Iterable[str], kallsyms: Kallsyms, modules: Iterable[str]) -> list[Target]:
    """Return functions of which only the address is needed, of vmlinux or these modules.

    Raises PwruError for a name that none has, or none that can be traced.
    """
    missing, found = set(names), []
    for module in (None, *modules):
        for symbol, addresses in kallsyms.find(missing, module).items() if missing else ():
            ambiguous = len(addresses) > 1
            found += [Target(symbol, address, 0, 0, False, 0, module, ambiguous) for address in addresses]
    targets = drop_notrace(Targets([target._replace(code="STACK_CODE") for target in found], {}))
    for name in sorted(missing):
        if not any(name in target.names for target in found):
            raise PwruError(f"`without_skb`: no function is called {name}")
        if not any(name in target.names for target in targets.found):
            raise PwruError(f"`without_skb`: {name} cannot be traced: it is notrace")
    return targets.found


def union(parts: Iterable[Targets]) -> Targets:
    """Return the targets of vmlinux and modules as one; if equal functions were merged, the first name counts."""
    by_address: dict[int, Target] = {}
    skipped: dict[str, list[str]] = {}
    for part in parts:
        for target in part.found:
            by_address.setdefault(target.address, target)
        for cause, names in part.skipped.items():
            skipped.setdefault(cause, []).extend(names)
    return Targets(list(by_address.values()), skipped)


def select(targets: Targets, filter_func: str | None) -> Targets:
    """Return the targets of which a whole name matches `functions`; that may be none."""
    if filter_func is None:
        return targets
    matches = NamePattern(as_regex(filter_func, set(targets.names))).fullmatch
    selected = [target for target in targets.found if any(map(matches, target.names))]
    skipped = {
        cause: matching_names
        for cause, names in targets.skipped.items()
        if (matching_names := [name for name in names if any(map(matches, names_of(name)))])
    }
    return Targets(selected, skipped)


def nothing_left(targets: Targets, filter_func: str | None) -> PwruError:
    """Return the error for an empty select(): no name matches, with near ones, or why those that do are skipped."""
    skipped = select(targets, filter_func).skipped
    if filter_func is not None and not skipped:
        return _no_match(filter_func, [name for name in targets.names if "[" not in name], "function")
    causes = (f"{abbreviate(names)}: {cause}" for cause, names in skipped.items())
    subject = "" if filter_func is None else f"`functions` {filter_func}: "
    return PwruError(f"{subject}no function is left to probe ({'; '.join(causes)})")


def drop_notrace(targets: Targets, tracefs: Path | None = None, kcore: str = ftrace.KCORE) -> Targets:
    """Skip the functions whose entry ftrace cannot patch; return `targets` itself if they are unknown.

    They are marked notrace, as are `inline` functions that were not inlined. No backend can attach to them; kprobes
    cannot since v4.20: commit 45408c4f9250 ("tracing: kprobes: Prohibit probing on notrace function").
    """
    entries = [(target.name, target.address) for target in targets.found]
    patchable = ftrace.traceable(entries, tracefs or features.tracefs(), kcore)
    if patchable is None:
        return targets
    return _split(targets, lambda target: target.address in patchable, "it is notrace")


def drop_blacklisted(targets: Targets, paths: Iterable[str] = BLACKLISTS) -> Targets:
    """Skip the functions in the blacklist of kprobes, if it can be read (debugfs).

    Lines are "0xSTART-0xEND\tNAME": kprobe_blacklist_seq_show() in kernel/kprobes.c.
    """
    for path in paths:
        with suppress(OSError):
            text = Path(path).read_text()
            break
    else:
        return targets
    names = {line.split()[1] for line in text.splitlines() if line}
    return _split(targets, lambda target: target.name not in names, "kprobes are not allowed in it")


def _split(targets: Targets, is_good: Callable[[Target], bool], cause: str) -> Targets:
    bad = [target.name for target in targets.found if not is_good(target)]
    good = [target for target in targets.found if is_good(target)]
    return Targets(good, {**targets.skipped, cause: bad} if bad else targets.skipped)


def matching(filter_func: str, names: Collection[str], what: str) -> list[str]:
    """Return the names that match as a whole. Raises PwruError with near names if none does; `what` is their noun."""
    matches = NamePattern(filter_func).fullmatch
    matching_names = [name for name in names if matches(name)]
    if not matching_names:
        raise _no_match(filter_func, names, what)
    return matching_names


def _no_match(filter_func: str, names: Collection[str], what: str) -> PwruError:
    search = NamePattern(filter_func).search
    hint = did_you_mean([name for name in names if search(name)][:3]) or near(filter_func, names)
    hint = hint and f" (the whole name has to match); {hint}"
    return PwruError(f"`functions` {filter_func}: matches no {what} with an skb argument{hint}")
