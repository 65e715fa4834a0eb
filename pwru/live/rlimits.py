"""Resource limits of this process, getrlimit(2): raised as far as needed, never lowered, never for nothing."""

from __future__ import annotations

import resource


def at_least(limit: int, needed: int) -> bool:
    """Whether this limit (`resource.RLIMIT_…`) is now at least that; above the hard limit it takes CAP_SYS_RESOURCE."""
    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    try:
        resource.setrlimit(limit, (needed, hard if hard == resource.RLIM_INFINITY else max(hard, needed)))
    except (OSError, ValueError):
        return False
    return True
