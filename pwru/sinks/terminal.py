"""What only a terminal gets: colour, and columns that fit its width. Pipes and files get the same whatever it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pwru.commands.options import Options

BOLD, DIM, RED, DEFAULT, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[39m", "\x1b[0m"


class Look(NamedTuple):
    """`width` is that of the terminal; 0: lines may be as long as they are."""

    color: bool = False
    width: int = 0


def look(options: Options) -> Look:
    """How text is to look where these events go."""
    terminal = options.output_file is None and os.isatty(1)
    able = terminal and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    color = options.color == "always" or (options.color == "auto" and bool(able))
    return Look(color, os.get_terminal_size(1).columns if terminal else 0)
