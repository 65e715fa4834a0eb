"""Processes by PID, and the PID namespace in which the kernel can recognize one."""

import os
from typing import NamedTuple

from pwru.errors import PwruError

_INITIAL = 0xEFFFFFFC  # the inode of the initial PID namespace: include/linux/proc_ns.h


class Process(NamedTuple):
    """`pid` is its number in the PID namespace with this inode, as the kernel has device numbers.

    A namespace of 0 is the initial one.
    """

    pid: int
    ns_dev: int = 0
    ns_inode: int = 0


def find(pid: int, proc: str = "/proc") -> Process:
    """Return the process that has this number in /proc. Raises PwruError if there is none, or if it is a thread.

    In a container that number is not the kernel's own, and which number that is cannot be seen there.
    """
    try:
        with open(f"{proc}/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
    except (FileNotFoundError, ProcessLookupError):
        hint = "" if _in_initial_namespace(proc) else " in this container, whose PIDs are not the host's"
        raise PwruError(f"`pid`: there is no process {pid}{hint}") from None
    except OSError as error:
        raise PwruError(f"`pid`: process {pid}: {error.strerror}") from None
    leader = int(status["Tgid"])
    if leader != pid:
        raise PwruError(f"`pid`: {pid} is a thread of process {leader}; give the PID of the process: {leader}")
    try:
        if _in_initial_namespace(proc):
            return Process(pid)
        namespace = os.stat(f"{proc}/{pid}/ns/pid")
    except OSError as error:
        raise PwruError(f"`pid`: the PID namespace of process {pid}: {error.strerror}") from None
    # From the namespace of /proc to that of the process, which may be nested in it.
    number = int(status["NSpid"].split()[-1])
    return Process(number, os.major(namespace.st_dev) << 20 | os.minor(namespace.st_dev), namespace.st_ino)


def _in_initial_namespace(proc: str) -> bool:
    """Return whether this process is in the initial PID namespace, or the kernel has no others (CONFIG_PID_NS)."""
    try:
        return os.stat(f"{proc}/self/ns/pid").st_ino == _INITIAL
    except FileNotFoundError:
        return True
