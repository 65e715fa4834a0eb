"""Where lines go: standard output, or anything else that takes whole lines."""

import os
import select
import stat
import sys
import time

from pwru.errors import PwruError

GRACE = 1.0  # how long a reader may take nothing, in seconds, before a trace that is to end goes without it


class Stream:
    """Standard output.

    A pipe gets whole lines at a time, of which it takes all or none (pipe(7): PIPE_BUF), and only when it has room: a
    trace that is to end does not wait for a reader that has stopped, and what was printed is never half a line. The
    same holds for sockets and terminals, but they may take a part, and others may have made them non-blocking.
    """

    name = "standard output"
    fd: int | None = None
    _stop_fd: int | None = None

    def __init__(self, fd: int = 1) -> None:
        """`fd`: another descriptor; it stays the caller's. Raises PwruError if standard output is closed."""
        if fd == 1 and sys.stdout is None:
            raise PwruError("standard output is closed: there is nowhere to write events to; see `output_file`")
        self._descriptor = fd

    def open(self) -> None:
        self.watch(self._descriptor)

    def begin(self, header: str) -> None:
        self.write(header)

    def give_up_after(self, stop_fd: int) -> None:
        """Wait no longer than GRACE for a reader without room, once `stop_fd` is readable."""
        self._stop_fd = stop_fd
        if self.fd is not None:
            self._room_or_stop.register(stop_fd, select.POLLIN)

    def write(self, text: str) -> int:
        """Return how many lines it gave up, the last ones. Raises BrokenPipeError when the reader has gone."""
        return self.put(text.encode())

    def close(self) -> None:
        """Wait for what is still being done."""

    def watch(self, fd: int) -> None:
        """Write to this descriptor from now on."""
        self.fd = fd
        mode = os.fstat(fd).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._room, self._room_or_stop = select.poll(), select.poll()
        self._room.register(fd, select.POLLOUT)
        self._room_or_stop.register(fd, select.POLLOUT)
        if self._stop_fd is not None:
            self._room_or_stop.register(self._stop_fd, select.POLLIN)

    def put(self, data: bytes) -> int:
        """Write lines; return how many it gave up."""
        assert self.fd is not None
        view, at = memoryview(data), 0
        while at < len(data):
            end = len(data)
            if self._may_block:
                if not self._has_room():
                    return data.count(b"\n", at)
                if end - at > select.PIPE_BUF:
                    end = data.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or at + select.PIPE_BUF
            try:
                at += os.write(self.fd, view[at:end])
            except BlockingIOError:
                time.sleep(0.001)  # there was room for less
            except (BrokenPipeError, ConnectionResetError):
                raise BrokenPipeError from None
            except OSError as error:
                raise PwruError(f"cannot write to {self.name}: {error.strerror}") from None
        return 0

    def _has_room(self) -> bool:
        """Wait for room, or for the stop and GRACE after that."""
        ready = self._room_or_stop.poll()
        return any(fd == self.fd for fd, _ in ready) or bool(self._room.poll(GRACE * 1000))
