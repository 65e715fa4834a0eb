"""What a run was: by whom, where and how it was traced."""

from typing import NamedTuple


class About(NamedTuple):
    """What a recording, or a report, says of its run.

    `version` is that of pwru; `kernel`: release, version and machine, as uname(2) has them; `backend`: how it was
    attached. `follow_limit`: how many skbs were followed at a time, 0 if none. `ring_buffer_size` is in bytes.
    `command`: the words of the command line after `pwru`. `trace` is random: the files of one run have the same.
    """

    version: str
    kernel: tuple[str, str, str]
    backend: str
    command: tuple[str, ...] = ()
    trace: str = ""
    follow_limit: int = 0
    sees_ends: bool = False
    ring_buffer_size: int = 0
