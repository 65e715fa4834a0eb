"""Resource limits of this process, getrlimit(2): raised only if needed. Those for locked memory: live/rlimits.py."""

import resource

from pwru.errors import PwruError

FILES = 256  # that are open at a time, at most, but for backends with one per function: these see to it


def at_least(limit: int, needed: int) -> bool:
    """Raise this limit (`resource.RLIMIT_…`) if needed; return whether it suffices.

    Beyond the hard limit this takes CAP_SYS_RESOURCE.
    """
    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    try:
        resource.setrlimit(limit, (needed, hard if hard == resource.RLIM_INFINITY else max(hard, needed)))
    except (OSError, ValueError):
        return False
    return True


def check_files() -> None:
    """Raise PwruError if this process may not have as many files open as it needs."""
    if not at_least(resource.RLIMIT_NOFILE, FILES):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise PwruError(f"this process may open {hard} files, and needs {FILES}: raise the limit (ulimit -n {FILES})")
