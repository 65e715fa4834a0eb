"""What backends and their callers tell each other: what a run wants, and what a kernel refuses."""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from pwru.kernel import features

_ENOTSUPP = 524  # include/linux/errno.h: meant to stay in the kernel, but does not
# The kernel's answers if one function of a link cannot be traced. Other errors are not about a function.
BAD_FUNCTION = {
    *(errno.EINVAL, errno.ENOENT, errno.EBUSY, errno.EADDRNOTAVAIL, errno.ESRCH, errno.E2BIG, errno.EOPNOTSUPP),
    _ENOTSUPP,
}

# Where a function's return address is at its entry: in a register elsewhere.
RETURNS_ON_STACK = os.uname().machine == "x86_64"

# Called with the number of attached probes and of all probes; may raise to end the attaching.
Progress = Callable[[int, int], None]


class Refused(Exception):
    """This kernel does not let this backend attach anything; the message says why."""


class Missing(NamedTuple):
    """What this kernel lacks, as `reason`; if a newer one has it, `since` is the release and `commit` the change."""

    reason: str
    since: str = ""
    commit: str = ""

    def __str__(self) -> str:
        return f"{self.reason} (Linux {self.since})" if self.since else self.reason


def without_ftrace() -> Missing | None:
    """Return what is missing if functions do not report to ftrace."""
    if features.ftrace_enabled():
        return None
    return Missing("ftrace is switched off, and no probe would fire; sysctl kernel.ftrace_enabled=1 switches it on")


class ProgramSpec(NamedTuple):
    """A program of the object.

    `name`: its entry point in bpf/pwru.bpf.c. `prog_type`, `attach_type`: enum bpf_prog_type and bpf_attach_type of its
    copies. `set_type`: the program itself has to be given them, since libbpf does not know them from its section.
    """

    name: str
    prog_type: int
    attach_type: int = 0
    set_type: bool = False


class How(NamedTuple):
    """How a run wants its probes.

    `batch`: the number of probes per request to the kernel, if it does not get all at once. `with_stack`: with the
    kernel stack, for which some places in a function are unsuitable; `with_caller`: with the caller. `may_fork`: child
    processes may do what would delay the end, or would not be done if this process were killed.
    """

    batch: int = 10
    with_stack: bool = False
    with_caller: bool = False
    may_fork: bool = False


def reason_of(error: OSError) -> str:
    """Return the kernel's reason in words."""
    return "not supported" if error.errno == _ENOTSUPP else os.strerror(error.errno or 0)
