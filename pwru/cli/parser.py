"""The parser of the command line, made from a table of flags."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NoReturn

from pwru import __version__
from pwru.cli.flags import DESCRIPTION, EPILOG, FLAGS, Flag, Kind
from pwru.commands.messages import report, say
from pwru.errors import PwruError, near, printable

# Flags are long and begin alike: a word that is less close to a flag than this means something else.
_CLOSE = 0.82


class Status(IntEnum):
    """Exit statuses. INCOMPLETE, with `strict` only: events were lost, probe hits missed, or packets not followed."""

    OK, ERROR, USAGE, INCOMPLETE = range(4)


class Parser(argparse.ArgumentParser):
    """Leaves the process with status 2 and one line on stderr if the command line is wrong."""

    def __init__(self, flags: Sequence[Flag] = FLAGS) -> None:
        super().__init__(
            prog="pwru",
            usage="pwru [FLAG ...] [PCAP-FILTER]",
            description=DESCRIPTION,
            epilog=EPILOG,
            formatter_class=_Help,
            argument_default=argparse.SUPPRESS,
            add_help=False,
            allow_abbrev=False,
        )
        self._flags = flags
        groups = {title: self.add_argument_group(title) for title in dict.fromkeys(flag.group for flag in flags)}
        rivals = {flag.exclusive: groups[flag.group] for flag in flags if flag.exclusive}
        exclusive = {name: group.add_mutually_exclusive_group() for name, group in rivals.items()}
        self._actions_of_flags = [
            _add((exclusive[flag.exclusive] if flag.exclusive else groups[flag.group]).add_argument, flag)
            for flag in flags
        ]

    def given(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the values of the flags that are given, by the names of these."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        namespace, more = self.parse_known_args(self.with_values(arguments[:end]))
        for word in more:
            if word.startswith("-"):
                self._no_such_flag(word.partition("=")[0])
        values = vars(namespace)
        for flag in self._flags:
            if flag.kind is Kind.WORDS:
                values[flag.name] = [*values[flag.name], *more, *arguments[end + 1 :]]
        return values

    def flags_and_actions(self) -> Iterator[tuple[Flag, argparse.Action]]:
        """Yield each row of the table with what argparse has made of it."""
        return zip(self._flags, self._actions_of_flags, strict=True)

    def with_values(self, words: Sequence[str]) -> list[str]:
        """Return the words with a value at each bare flag, which takes no word after it for its value.

        argparse would do that: in scripts for the Go tool, that word begins the pcap filter (`--output-json tcp`), and
        a value has a `=` (`--output-meta=false`).
        """
        bare = {name: flag for flag in self._flags if flag.bare for name in flag.names.split()}
        spelled_out = list(words)
        for number, word in enumerate(words):
            # A value that is a number may follow: no filter begins with a number alone.
            if (flag := bare.get(word)) and (
                flag.kind is Kind.BOOLEAN or not "".join(words[number + 1 : number + 2]).isdecimal()
            ):
                spelled_out[number] = f"{word}={flag.bare}"
        return spelled_out

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line: a page of usage would push it off the screen."""
        self._refuse(f"{message.removeprefix('argument ')}; pwru --help shows all flags")

    def _no_such_flag(self, word: str) -> NoReturn:
        hint = near(word, [name for flag in self._flags for name in flag.names.split()], _CLOSE)
        if not hint:
            self.error(f"no such flag: {word}")
        self._refuse(f"no such flag: {word}; {hint}")

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or the version. Raises PwruError if it cannot be written, of which argparse says nothing."""
        report(message)

    def _refuse(self, message: str) -> NoReturn:
        say(f"pwru: {printable(message)}")
        self.exit(Status.USAGE)


class _Help(argparse.RawDescriptionHelpFormatter):
    """All flags in one column, all explanations in another; no wider than is easily read."""

    def __init__(self, prog: str, **more: Any) -> None:
        import shutil

        width = min(shutil.get_terminal_size().columns, 80) - 1
        super().__init__(prog, max_help_position=32, width=width, **more)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.metavar is None and action.option_strings:
            return ", ".join(action.option_strings)
        return super()._format_action_invocation(action)


def _add(add: Callable[..., argparse.Action], flag: Flag) -> argparse.Action:
    text = argparse.SUPPRESS if flag.hidden else flag.help
    if flag.kind is Kind.WORDS:
        return add(flag.name, nargs="*", default=[], help=text)
    if flag.kind is Kind.HELP:
        return add(*flag.names.split(), action="help", help=text)
    if flag.kind is Kind.VERSION:
        return add(*flag.names.split(), action="version", version=f"pwru {__version__}", help=text)
    return add(
        *flag.names.split(),
        action="extend" if flag.kind is Kind.LIST else "store",
        dest=flag.name,
        metavar=flag.metavar,
        type=_reported(flag.type),
        choices=flag.choices,
        help=text,
    )


def _reported(value: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the same function with an error that argparse prints as it is."""

    def reported(text: str) -> Any:
        try:
            return value(text)
        except PwruError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return reported
