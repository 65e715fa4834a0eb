"""Shell completion: the scripts for bash, zsh and fish, and the answer when one of them asks what may come next.

argcomplete makes the scripts, takes the command line apart and escapes what is offered for the shell that asks. A
script runs `pwru` at each TAB with _ARGCOMPLETE in the environment, and throws away what it prints: after an error
nothing is offered.
"""

import argparse
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pwru import vendored
from pwru.cli.candidates import CANDIDATES, Given
from pwru.cli.flags import Flag, Kind
from pwru.cli.parser import Parser

with vendored.importable():
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import CompletionFinder, safe_actions
    from argcomplete.shell_integration import shellcode

# Between the parts of a value that may be given as one: a,b in a list, a|b in a regular expression.
_SEPARATORS = {"--filter-func": "|"}
# The word at the cursor, if it is a flag with a part of its value.
_VALUE_BEGUN = re.compile(r"--?[\w-]+=\S*\Z")


def script(shell: str) -> str:
    """Return the script that a shell (bash, zsh, fish) reads to complete the command lines of `pwru`.

    It runs the `pwru` of PATH, not one that is called by another name.
    """
    return shellcode(["pwru"], use_defaults=False, shell=shell, argcomplete_script="pwru").lstrip("\n")


def complete() -> NoReturn:
    """Answer the shell, through the descriptor that its script has opened, and leave the process."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
    finder = CompletionFinder()
    finder(_parser(line), always_complete_options="long", default_completer=SuppressCompleter())
    os._exit(1)  # there is no such descriptor


def _parser(line: str) -> Parser:
    """Return the parser for a command line up to the cursor, with what is offered for the value of each flag."""
    parser = _Begun(line)
    for flag, action in parser.flags_and_actions():
        if flag.kind in (Kind.HELP, Kind.VERSION):
            continue
        if flag.completes or flag.choices:
            vars(action)["completer"] = _Values(flag)
        # a value before the cursor may be wrong as yet, or $VARIABLE
        action.type = (lambda text: text.split(",")) if flag.kind is Kind.LIST else None
        action.choices = None
        safe_actions.add(type(action))  # what is given is known to _Values then
    return parser


class _Begun(Parser):
    """The parser of a command line that is not complete."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._value_begun = bool(_VALUE_BEGUN.search(line))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as Parser.given() does; argcomplete leaves only `--flag` of `--flag=VALUE` at the cursor."""
        words = list(args or ())
        kept = words[-1:] if self._value_begun else []
        return super().parse_known_args([*self.with_values(words[: len(words) - len(kept)]), *kept], namespace)


class _Values:
    """What argcomplete calls for the value of a flag, or for the last part of one."""

    def __init__(self, flag: Flag) -> None:
        choices = dict.fromkeys(flag.choices or (), "")
        self._find = CANDIDATES[flag.completes] if flag.completes else lambda _, __: choices
        self._separator = _SEPARATORS.get(flag.name, "," if flag.kind is Kind.LIST else "")

    def __call__(self, *, prefix: str, parsed_args: argparse.Namespace, **_: object) -> Mapping[str, str]:
        before, separator, last = prefix.rpartition(self._separator) if self._separator else ("", "", prefix)
        given: Given = vars(parsed_args)
        found = self._find(last, given)
        there = before.split(self._separator) if before else []
        return {
            f"{before}{separator}{word}": says
            for word, says in found.items()
            if word.startswith(last) and word.isprintable() and word not in there
        }
