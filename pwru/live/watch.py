"""Notice modules that are loaded while we trace."""

import socket

from pwru.kernel.modules import loaded

_NETLINK_KOBJECT_UEVENT = 15  # include/uapi/linux/netlink.h
_FROM_KERNEL = 1  # the multicast group; 2 is what udev passes on
_UEVENT_SIZE = 8192  # more than UEVENT_BUFFER_SIZE of include/linux/kobject.h and its header


class Watch:
    """A socket that becomes readable when a module is loaded; `modules` are those that were loaded at first.

    A uevent only says that it is time to look, so nothing depends on all of them being received. The kernel sends a
    module's uevent when its initialisation is done and its BTF and symbols exist: commit 38dc717e9715 ("module: delay
    kobject uevent until after module init call"), in v5.11. It does so in each network namespace of the initial user
    namespace: commit a3498436b3a0 ("netns: restrict uevents"), in v4.18.
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

    def close(self) -> None:
        self._socket.close()

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def new(self) -> list[str]:
        """Return the modules loaded since the last call, including those loaded again; does not wait."""
        if not self._notified():
            return []
        before, self.modules = self.modules, loaded()
        return [name for name, inode in self.modules.items() if before.get(name) != inode]

    def _notified(self) -> bool:
        """Receive all pending uevents; return whether a module was added, or may have been."""
        added = False
        while True:
            try:
                added |= self._socket.recv(_UEVENT_SIZE).startswith(b"add@/module/")
            except BlockingIOError:
                return added
            except OSError:  # ENOBUFS: there were more than the socket holds
                added = True
