"""Notice modules that are loaded and unloaded while we trace."""

import re
import socket
from typing import NamedTuple

from pwru.kernel.modules import loaded

_NETLINK_KOBJECT_UEVENT = 15  # include/uapi/linux/netlink.h
_FROM_KERNEL = 1  # the multicast group; 2 is what udev passes on
_UEVENT_SIZE = 8192  # more than UEVENT_BUFFER_SIZE of include/linux/kobject.h and its header
_UEVENT = re.compile(rb"(add|remove)@/module/([^/\0]+)\0")


class Changes(NamedTuple):
    """Modules that came and went, with their inodes in sysfs. One that was loaded again did both.

    `loaded`: all that are there now. `missed`: the names of those that came and had gone before anybody looked.
    """

    loaded: dict[str, int]
    new: dict[str, int]
    gone: dict[str, int]
    missed: list[str]


class Watch:
    """A socket that becomes readable when a module comes or goes; `modules` are those that the caller knows of.

    A uevent only says that it is time to look, so little depends on all of them being received. The kernel sends a
    module's uevent when its initialisation is done and its BTF and symbols exist: commit 38dc717e9715 ("module: delay
    kobject uevent until after module init call"), in v5.11; and another when it has left, before its memory is freed.
    It does so in each network namespace of the initial user namespace: commit a3498436b3a0 ("netns: restrict uevents"),
    in v4.18.
    """

    def __init__(self) -> None:
        """Raises OSError if such a socket is not to be had."""
        socket_type = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, socket_type, _NETLINK_KOBJECT_UEVENT)
        try:
            self._socket.bind((0, _FROM_KERNEL))
        except OSError:
            self._socket.close()
            raise
        self.modules = loaded()  # after the bind, so that none is missed in between
        self._added: set[str] = set()

    def close(self) -> None:
        self._socket.close()

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def notified(self) -> bool:
        """Receive all pending uevents; return whether a module came or went, or may have."""
        notified = False
        while True:
            try:
                uevent = _UEVENT.match(self._socket.recv(_UEVENT_SIZE))
            except BlockingIOError:
                return notified
            except OSError:  # ENOBUFS: there were more than the socket holds
                notified = True
            else:
                if uevent:
                    notified = True
                    if uevent[1] == b"add":
                        self._added.add(uevent[2].decode())

    def changes(self) -> Changes:
        """Compare what is loaded with what the caller knows of."""
        before, now = self.modules, loaded()
        new = {name: inode for name, inode in now.items() if before.get(name) != inode}
        gone = {name: inode for name, inode in before.items() if now.get(name) != inode}
        return Changes(now, new, gone, sorted(self._added - now.keys()))

    def accept(self, changes: Changes) -> None:
        """From now on the caller knows of these."""
        self.modules = changes.loaded
        self._added.clear()
