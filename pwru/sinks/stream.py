"""Where lines go: standard output, or anything else that takes whole lines."""

import contextlib
import errno
import os
import select
import stat
import sys
import time

from pwru.errors import PwruError

# How long a reader has to take what is left when a trace is to end, in seconds: together with the rest of the end, a
# user waits for two at most.
GRACE = 1.7
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)  # a pipe, a socket, and a terminal that was closed


class Stream:
    """Standard output.

    A pipe gets whole lines at a time, of which it takes all or none (pipe(7): PIPE_BUF), and only when it has room: a
    trace that is to end does not wait for a reader that is slow or has stopped, and what was printed is never half a
    line. The same holds for sockets and terminals, but they may take a part, and others may have made them
    non-blocking.
    """

    name = "standard output"
    failure: PwruError | None = None  # why nothing can be written any more
    fd: int | None = None
    may_block = False  # whether it is a pipe, a socket or a terminal
    files = 0  # that have begun with the header besides the first
    whole = False
    _stop_fd: int | None = None
    _deadline: float | None = None

    def __init__(self, fd: int = 1, *, whole: bool = False) -> None:
        """`fd`: another descriptor; it stays the caller's. `whole`: what is put is no lines, but whole pieces.

        Raises PwruError if standard output is closed.
        """
        self.whole = whole
        if fd == 1 and sys.stdout is None:
            raise PwruError("standard output is closed: there is nowhere to write events to; see `output_file`")
        self._descriptor = fd

    def open(self) -> None:
        self.watch(self._descriptor)

    def begin(self, header: bytes) -> None:
        """Raise PwruError if nothing can be written."""
        self.put(header)
        if self.failure:
            raise self.failure

    def give_up_after(self, stop_fd: int) -> None:
        """Give the reader GRACE to take the rest, once `stop_fd` is readable."""
        self._stop_fd = stop_fd
        if self.fd is not None:
            self._room_or_stop.register(stop_fd, select.POLLIN)

    def write(self, text: str) -> int:
        """Return how many bytes it gave up, the last ones.

        The reader has gone, or has not taken them in time; or `failure` says why nothing can be written.
        """
        return self.put(text.encode())

    def make_room(self, size: int, last: bytes) -> None:
        """Go on in another file, if this one is full without so many bytes more; `last` is its end then."""

    def reopen(self, last: bytes = b"") -> None:
        """Go on in the file that has the name now, if it is a file; `last` is the end of this one then."""

    def close(self) -> None:
        """Wait for what is still being done."""

    def watch(self, fd: int) -> None:
        """Write to this descriptor from now on."""
        self.fd = fd
        mode = os.fstat(fd).st_mode
        self.may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._room, self._room_or_stop = select.poll(), select.poll()
        self._room.register(fd, select.POLLOUT)
        self._room_or_stop.register(fd, select.POLLOUT)
        if self._stop_fd is not None:
            self._room_or_stop.register(self._stop_fd, select.POLLIN)

    def put(self, data: bytes) -> int:
        """Write lines, or a whole piece; return how many bytes it gave up."""
        assert self.fd is not None
        if self.failure:
            return len(data)
        view, at = memoryview(data), 0
        while at < len(data):
            end = len(data)
            if self.may_block:
                if not self._has_room():
                    return len(data) - at
                if end - at > select.PIPE_BUF:
                    end = data.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or at + select.PIPE_BUF
            try:
                at += os.write(self.fd, view[at:end])
            except BlockingIOError:
                time.sleep(0.001)  # there was room for less
            except OSError as error:
                if self.may_block and error.errno in _GONE:
                    return len(data) - at
                self.failure = PwruError(f"cannot write to {self.name}: {error.strerror}")
                return len(data) - self._take_back(data, at)
        return 0

    def _is_stopping(self) -> bool:
        """Look again: a signal that asks for something else leaves the descriptor readable until its handler ran."""
        stopping = select.poll()
        stopping.register(self._stop_fd or 0, select.POLLIN)
        return bool(stopping.poll(0))

    def _take_back(self, data: bytes, at: int) -> int:
        """Cut off what could be written only in part; return how many bytes remain of those up to `at`."""
        assert self.fd is not None
        end = 0 if self.whole else data.rfind(b"\n", 0, at) + 1
        with contextlib.suppress(OSError):  # a pipe cannot be cut off
            if os.lseek(self.fd, 0, os.SEEK_CUR) == os.fstat(self.fd).st_size:
                size = os.lseek(self.fd, end - at, os.SEEK_CUR)
                os.ftruncate(self.fd, size)
                return end
        return at

    def _has_room(self) -> bool:
        """Wait for room; after the stop, until the deadline."""
        while self._deadline is None:
            ready = [fd for fd, _ in self._room_or_stop.poll()]
            if self._stop_fd not in ready:
                return True
            if self._is_stopping():
                self._deadline = time.monotonic() + GRACE
        return bool(self._room.poll(max(self._deadline - time.monotonic(), 0) * 1000))
