"""A child process for what would delay the end of this one, or must be done even if this one is killed."""

import os
from collections.abc import Callable
from threading import Thread
from typing import NamedTuple


class Child(NamedTuple):
    """A running child; `pipe` is the write end of a pipe that nobody writes to."""

    pid: int
    pipe: int

    def release(self) -> None:
        """Close the pipe, as the end of this process does. The child is not waited for, but leaves no zombie."""
        os.close(self.pipe)
        Thread(target=os.waitpid, args=(self.pid, 0), daemon=True).start()


def start(work: Callable[[int], None]) -> Child:
    """Call `work` in a child, with the read end of the pipe: it is at its end once the child is released.

    Raises OSError if there can be no child.
    """
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read_end)
        os.close(write_end)
        raise
    if pid:
        os.close(read_end)
        return Child(pid, write_end)
    status = 1
    try:
        os.close(write_end)
        work(read_end)
        status = 0
    finally:
        os._exit(status)
