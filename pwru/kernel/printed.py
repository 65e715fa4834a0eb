"""Names of functions as they are printed, which may stand in `functions` among regular expressions.

FUNC has NAME and, of several modules, NAME[MODULE]; callers and stacks have NAME+0xOFFSET[MODULE]. As a regular
expression, `gre_rcv[ip_gre]` would be another name.
"""

import re
from collections.abc import Callable, Collection, Iterator

from pwru.errors import PwruError

_TRACEPOINT = "tracepoint:"
# One alternative of a regular expression, as a whole.
_START, _END = r"(?<![^|(])", r"(?![^|)])"
_NAME = re.compile(rf"{_START}((?:{_TRACEPOINT})?[\w.]+)(\+0x[0-9a-f]+)?(?:\[(\w+)\])?{_END}")
_WITH_REASON = re.compile(rf"{_START}((?:{_TRACEPOINT})?\w+) ?\(([A-Z0-9_]+(?:/\d+)?)\){_END}")
_RENAMED = re.compile(r"(\w+)((?:\.(?:part|cold|isra|constprop|llvm|\d+))+)")


def as_regex(text: str, names: Collection[str]) -> str:
    """Return `functions` with the printed names in it, which are among `names`, as regular expressions."""

    def literal(match: re.Match[str]) -> str:
        name, offset, module = match.groups()
        wanted = f"{name}[{module}]" if module else name
        return re.escape(wanted) if (offset or module) and wanted in names else match[0]

    return _NAME.sub(literal, text)


def check_printed(text: str, names: Collection[str], modules: Callable[[], Collection[str]]) -> None:
    """Raise PwruError for an alternative of `functions` that looks like a printed name and is none of these.

    `names` has every way to write what there is to choose from; `modules` returns those that are loaded.
    """
    for printed, reason in _mistakes(text, names, modules):
        matches = re.compile(as_regex(printed, names)).fullmatch
        if not any(map(matches, names)):
            raise PwruError(f"`functions` {printed}: {reason}")


def _mistakes(text: str, names: Collection[str], modules: Callable[[], Collection[str]]) -> Iterator[tuple[str, str]]:
    """Yield what looks printed and may be wrong, and why, if it is."""
    for match in _WITH_REASON.finditer(text):
        yield match[0], f"a reason is no part of a name; use {match[1]}, or `drop_reasons` {match[2]}"
    for match in _NAME.finditer(text):
        name, _, module = match.groups()
        if (renamed := _RENAMED.fullmatch(name)) and (reason := _why_renamed(renamed[1], renamed[2], names)):
            yield match[0], reason
        elif module and module in modules():
            yield match[0], f"it is in the module {module}; `modules` {module} adds the functions of that"
        elif name.startswith(_TRACEPOINT) and not any(other.startswith(_TRACEPOINT) for other in names):
            yield match[0], "this is a tracepoint; these are traced with `backend` tracepoint"


def _why_renamed(source: str, suffix: str, names: Collection[str]) -> str:
    use = f"; use {source}" if source in names else ""
    if ".part" in suffix or ".cold" in suffix:
        return f"the compiler split it off {source}, and it has no arguments of its own{use}"
    return f"the compiler made it of {source}, and which arguments it has left is unknown{use}" if use else ""
