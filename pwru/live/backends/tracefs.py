"""tracefs, where it is mounted or not: `with closing(Tracefs()) as tracefs:` has `tracefs.path`."""

import os
from pathlib import Path

from pwru.kernel import features
from pwru.libbpf import syscalls


class Tracefs:
    """Where tracefs is mounted; if it is not, a mount of its own, at no place: it needs no mount namespace.

    A container may have none, and may not see those of init.
    """

    def __init__(self) -> None:
        """Raises OSError if it is not mounted and cannot be."""
        self.fd = -1  # of the mount, for a child to keep
        mounted = features.tracefs()
        if mounted is None:
            # Before v6.0 this sets the mode of its root to the default, as any mount does: commit 47311db8e8f3
            # ("tracefs: Only clobber mode/uid/gid on remount if asked").
            self.fd = syscalls.mount("tracefs")
            mounted = Path(f"/proc/self/fd/{self.fd}")
        self.path = mounted

    def close(self) -> None:
        """May be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
