"""What is compared: a line for each set of flags, how both are called and what of their output has to be the same."""

from __future__ import annotations

from typing import NamedTuple


class Flags(NamedTuple):
    """`theirs` and `ours` are arguments; a set that one of them does not know yet is left out and said so.

    `format` is that of our output: text or json. `columns` are those that are compared beyond the ones of every line.
    """

    name: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    format: str = "text"
    columns: tuple[str, ...] = ()


META = ("netns", "mark", "iface", "proto", "mtu", "len")
COLUMNS = (*META, "tuple")
WITH_COLUMNS = ("--output-meta", "--output-tuple")  # ours always has them

FLAGS = (
    Flags("text", WITH_COLUMNS, (), columns=COLUMNS),
    Flags("--output-json", WITH_COLUMNS, ("--output-json",), "json", COLUMNS),
    Flags("--output-meta=false", ("--output-tuple",), ("--output-meta=false",), columns=("tuple",)),
    *(
        Flags(
            f"--timestamp={mode}",
            (*WITH_COLUMNS, f"--timestamp={mode}"),
            (f"--timestamp={mode}",),
            columns=(*COLUMNS, f"time {mode}"),
        )
        for mode in ("current", "relative", "absolute")
    ),
    Flags("--output-tuple=false", ("--output-meta",), ("--output-tuple=false",), columns=META),
)
