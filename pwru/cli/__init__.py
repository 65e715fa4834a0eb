"""The command line: flags to Options, and errors to one line and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, cast

from pwru.cli.flags import flags_named
from pwru.cli.options import parse
from pwru.cli.parser import Status
from pwru.commands.messages import report, say
from pwru.commands.options import Options
from pwru.errors import PwruError, explain, printable
from pwru.limits import check_files

if TYPE_CHECKING:
    from importlib.abc import FileLoader

    from pwru.commands.trace import End


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `pwru` and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments

    def tell(message: str) -> None:
        say(flags_named(message, words))

    try:
        return _run(parse(words)._replace(command=tuple(words)), tell)
    except PwruError as error:
        tell(f"pwru: {printable(str(error))}")
        return Status.ERROR
    except BrokenPipeError:  # of a report: who read it has seen enough
        return Status.OK
    except OSError as error:
        tell(f"pwru: {printable(explain(error))}")
        return Status.ERROR


def _run(options: Options, tell: Callable[[str], None]) -> int:
    if options.man or options.completion:
        report(_document(options))
        return Status.OK
    check_files()
    if options.check:
        from pwru.commands.check import check

        return Status.OK if check(options, flags_named) else Status.ERROR
    if options.diff:
        from pwru.commands.diff import diff

        diff(options, tell)
        return Status.OK
    if options.read is not None:
        from pwru.commands.replay import replay

        return _status(replay(options, tell), options)
    compiler = None
    if options.request.filter:
        from pwru.filter.packet.pcap import Compiler

        with contextlib.suppress(OSError):  # it can be compiled in this process as well, later
            compiler = Compiler(options.request.filter)
    from pwru.commands.trace import trace  # after the fork: its modules are loaded while the filter is compiled

    return _status(trace(options, tell, compiler), options)


def _status(end: End, options: Options) -> int:
    return end.status if end.complete or not options.strict else Status.INCOMPLETE


def _document(options: Options) -> str:
    """Return the manual page, in the language of man(7), or the script of a shell."""
    if options.completion:
        from pwru.cli.completion import script

        return script(options.completion)
    # The build makes it: docs/manpage.py. Its folder may be an archive.
    loader = cast("FileLoader", sys.modules["pwru"].__loader__)
    return loader.get_data(os.path.join(*sys.modules["pwru"].__path__, "pwru.8")).decode()


def run() -> NoReturn:
    """Run main() as a process: the kernel cleans up what it had open, so the interpreter need not tidy up first."""
    status: int | str | None
    try:
        if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
            from pwru.cli.completion import complete

            complete()
        status = main()
    except SystemExit as leaving:  # argparse: --help, --version, a wrong command line
        status = leaving.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(int(status or 0))
