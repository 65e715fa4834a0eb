"""The flags that are compared: one entry per set of flags, with both command lines and the columns that must agree."""

from __future__ import annotations

from typing import NamedTuple


class Flags(NamedTuple):
    """A set of flags: the arguments of both tools; if one of them lacks a flag, the report says so and leaves it out.

    `format` is that of our output: text or json. `columns` are compared in addition to those of every line.
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
