"""What one run of the command was asked to do: plain data, made from the command line."""

from typing import NamedTuple

from pwru.live.request import Request


class Options(NamedTuple):
    """`request` is what to trace; the rest is what becomes of it.

    `timestamp`, `netns_names` (a width, 0 for none), `caller` and `color` ("auto", "always" or "never") are about
    lines; so is `packet_id`, for text: which packet each event is of. `limit`: end after so many events; 0: never.
    Sizes of `output_file` are in MB, ages in days; 0: no limit. `user`: whom to become once everything is attached.
    Nothing is traced with `check`, `man` or `completion` (the name of a shell).
    """

    request: Request = Request()
    check: bool = False
    json: bool = False
    timestamp: str = "none"
    netns_names: int = 0
    caller: bool = False
    packet_id: bool = False
    color: str = "auto"
    limit: int = 0
    strict: bool = False
    output_file: str | None = None
    output_file_max_size: int = 100
    output_file_max_age: int = 0
    output_file_max_backups: int = 0
    output_file_compress: bool = False
    ready_file: str | None = None
    user: str | None = None
    debug: bool = False
    man: bool = False
    completion: str | None = None
