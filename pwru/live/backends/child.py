"""A child process for what would delay the end of this one, or must be done even if this one is killed."""

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Thread
from typing import NamedTuple

QUIET_SECONDS = 0.5
_released: list[Thread] = []


class Child(NamedTuple):
    """A running child; `pipe` is the write end of a pipe that nobody writes to."""

    pid: int
    pipe: int

    def release(self) -> None:
        """Close the pipe, as the end of this process does. The child is not waited for, but leaves no zombie."""
        os.close(self.pipe)
        waiting = Thread(target=os.waitpid, args=(self.pid, 0), daemon=True)
        waiting.start()
        _released.append(waiting)


def start(work: Callable[[int], object], keep: Collection[int] = ()) -> Child:
    """Call `work` in a child, with the read end of the pipe: it is at its end once the child is released.

    Of the descriptors of this process it has those to `keep`: somebody may wait for the end of the output. It ignores
    what ends this process. Raises OSError if there can be no child.
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
        _part({read_end, *keep})
        work(read_end)
        status = 0
    finally:
        os._exit(status)


def hold(fds: Collection[int]) -> Child:
    """Start a child that keeps these descriptors until it is released: they are closed when it ends."""
    return start(lambda read_end: os.read(read_end, 1), fds)


def finish(on_waiting: Callable[[], None]) -> None:
    """Wait for children that were released, if they would be killed with the end of this process.

    `on_waiting` is called if that takes some time.
    """
    if not takes_all_along():
        return
    for waiting in _released:
        waiting.join(QUIET_SECONDS)
        if waiting.is_alive():
            on_waiting()
            waiting.join()
    _released.clear()


def takes_all_along(proc: str = "/proc") -> bool:
    """Return whether the end of this process ends others: it is the main process of a container or a service.

    Then it is PID 1, or what started it has put it into a cgroup of its own, in which nothing may stay.
    """
    parent = _cgroup(f"{proc}/{os.getppid()}")
    return os.getpid() == 1 or parent not in (None, _cgroup(f"{proc}/self"))


def _cgroup(process: str) -> str | None:
    """Return the cgroups of a process; None if it has ended or is in no PID namespace of ours. See cgroups(7)."""
    try:
        return Path(process, "cgroup").read_text()
    except OSError:
        return None


def _part(keep: Collection[int]) -> None:
    """Leave the parent's session, and its descriptors but these."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {*keep}:
        with contextlib.suppress(OSError):
            os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in {0, 1, 2} - {*keep}:
        os.dup2(null, fd)
    os.chdir("/")
