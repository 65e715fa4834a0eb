"""What one run of the command was asked to do: plain data, made from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pwru.live.request import Request

if TYPE_CHECKING:
    from pwru.record.shown import Shown
    from pwru.replay.moments import Span


class Options(NamedTuple):
    """`request` is what to trace; the rest is what becomes of it.

    `group`: one block per packet, not one line per event; with `stages`, in stages. `timestamp`, `netns_names` (a
    width, 0 for none), `caller` and `color` ("auto", "always" or "never") are about
    lines; so is `packet_id`, for text: which packet each event is of. `limit`: end after so many events; 0: never.
    `output_pcap`: the file for a capture, "-" for standard output; with `output_pcap_all` of every event.
    Sizes of `output_file` are in MB, ages in days; 0: no limit. `user`: whom to become once everything is attached.

    `write`: a file for a recording, which gives way to others as `output_file` does if `write_rotates`; `command` is
    what the user typed, for it. `print`: lines, too, though there is another output. `shown`: what lines show, if
    events have more.

    With `read` nothing is traced, but read from a recording: only `packets` with these numbers, within the `span` of
    time; with `follow_recorded`, packets that match once are printed from there on. `report`: a file for a page about
    the packets; `output_parquet`: one for a table of events.

    With `summary` there are no lines, but a summary; `print` brings lines, too. `only`: words of
    record.wrong; no other packets reach any output.

    `diff`: two recordings to compare, or one and two filters.

    Nothing is traced with `check`, `man` or `completion` (the name of a shell).
    """

    request: Request = Request()
    check: bool = False
    write: str | None = None
    write_rotates: bool = False
    read: str | None = None
    output_parquet: str | None = None
    print: bool = False
    packets: tuple[int, ...] = ()
    span: Span | None = None
    follow_recorded: bool = True
    shown: Shown | None = None
    command: tuple[str, ...] = ()
    group: bool = False
    stages: bool = False
    json: bool = False
    timestamp: str = "none"
    netns_names: int = 0
    caller: bool = False
    packet_id: bool = False
    summary: bool = False
    only: tuple[str, ...] = ()
    diff: tuple[str, ...] = ()
    color: str = "auto"
    limit: int = 0
    strict: bool = False
    output_file: str | None = None
    output_file_max_size: int = 100
    output_file_max_age: int = 0
    output_file_max_backups: int = 0
    output_file_compress: bool = False
    report: str | None = None
    output_pcap: str | None = None
    output_pcap_all: bool = False
    ready_file: str | None = None
    user: str | None = None
    debug: bool = False
    man: bool = False
    completion: str | None = None

    @property
    def reopens(self) -> bool:
        """Whether events go to files that may have to be opened anew."""
        others = self.write, self.output_pcap
        return self.output_file is not None or any(path not in (None, "-") for path in others)

    @property
    def creates_files(self) -> bool:
        """Whether files are created after the start."""
        return self.reopens or self.report is not None
