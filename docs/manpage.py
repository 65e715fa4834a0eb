"""Writes the man page pwru(8): python -m docs.manpage FILE, in the root of the checkout.

argparse-manpage makes the synopsis and the flags from the parser of the command line; all other sections are in
docs/pwru.8.roff, in the language of man(7). The date is that of SOURCE_DATE_EPOCH, if it is set.
"""

import sys
from pathlib import Path
from textwrap import wrap

from argparse_manpage.manpage import Manpage

from pwru import __version__
from pwru.cli.flags import FLAGS, Kind
from pwru.cli.parser import Parser

_WIDTH = 78
SECTIONS = Path(__file__).with_name("pwru.8.roff")


def page() -> str:
    """Return the man page."""
    parser = Parser()
    parser.description = parser.epilog = None  # the page says more, and has these examples
    for flag, action in parser.flags_and_actions():
        if flag.kind is Kind.BOOLEAN:
            action.nargs = 0  # its value need not be known
    man = Manpage(parser)
    man.section, man.manual, man.source = 8, "System Manager's Manual", f"pwru {__version__}"
    man.description = "show the way of packets through the Linux kernel"
    man.parse_include(SECTIONS)
    head, text = str(man).split("\n", 1)
    # each group of flags is a section for argparse-manpage: here they are parts of one
    groups = list(dict.fromkeys(flag.group for flag in FLAGS))
    text = text.replace(f".SH {groups[0].upper()}\n", f".SH OPTIONS\n.SH {groups[0].upper()}\n")
    for title in groups:
        text = text.replace(f".SH {title.upper()}\n", f".SS {title[0].upper()}{title[1:]}\n")
    lines = [head.replace("\\-", "-"), *(part for line in text.splitlines() if line for part in _broken(line))]
    return "".join(f"{line}\n" for line in lines)


def _broken(line: str) -> list[str]:
    """Return a line of text as lines of up to 80 characters, none of which begins as a request of roff does."""
    if line.startswith("."):
        return [line]
    lines = wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{part}" if part.startswith((".", "'")) else part for part in lines]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
