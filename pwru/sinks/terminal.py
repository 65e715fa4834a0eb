"""What only a terminal gets: colour, and columns that fit its width. Pipes and files get the same whatever it is."""

import os
import re
from typing import NamedTuple

BOLD, DIM, RED, DEFAULT, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[39m", "\x1b[0m"

_ESCAPE = re.compile("\x1b\\[[0-9;]*m")


class Terminal(NamedTuple):
    """Whether lines have colour, and the width that they are to fit, in characters; 0: any."""

    color: bool = False
    width: int = 0


def terminal(fd: int | None, color: str) -> Terminal:
    """Return what the terminal at `fd` is to get; None is no terminal. `color` is "auto", "always" or "never"."""
    is_terminal = fd is not None and os.isatty(fd)
    able = is_terminal and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    width = os.get_terminal_size(fd).columns if is_terminal and fd is not None else 0
    return Terminal(color == "always" or (color == "auto" and bool(able)), width)


def width_of(text: str) -> int:
    """Return how many columns a line of text takes, whatever its colours."""
    return len(_ESCAPE.sub("", text))
