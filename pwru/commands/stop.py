"""A signal asks for the end; asked again, the process ends at once."""

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any, Self

from pwru.errors import PwruError

# The ordinary ends of a trace; and those that tell the parent by the exit status that somebody else ended it. The
# latter stay ignored if they were when the process started: nohup(1), and jobs that a script has put in the background.
_ORDINARY = (signal.SIGINT, signal.SIGTERM)
_OTHERS = (signal.SIGHUP, signal.SIGQUIT)


class Stop:
    """`asked` tells, and `fd` polls readable then. The handlers of before are back when it is left.

    Once it `reopens`, SIGHUP asks for no end, but for a new file, unless the terminal was closed: `reopen_fd` polls
    readable, until reopen_asked().
    """

    def __init__(self) -> None:
        self.asked: int | None = None  # by which signal
        self.reopens = False
        self._had_terminal = _has_terminal()
        self.fd, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.reopen_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        for number in _ORDINARY + _OTHERS:
            if number in _ORDINARY or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._wakeup)
        os.close(self.reopen_fd)

    def reopen_asked(self) -> bool:
        """Return whether it was asked since the last call."""
        try:
            return bool(os.eventfd_read(self.reopen_fd))
        except BlockingIOError:
            return False

    @property
    def status(self) -> int:
        """The exit status that tells of the signal, as a shell would put it; 0 for an ordinary end."""
        return 128 + self.asked if self.asked in _OTHERS else 0

    def check(self) -> None:
        if self.asked:
            raise PwruError("interrupted before everything was attached")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.reopens and not self.asked and not self._lost_terminal():
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, select.PIPE_BUF)  # what the signal left there asks for the end
            os.eventfd_write(self.reopen_fd, 1)
        elif not self.asked:
            self.asked = number
            with contextlib.suppress(BlockingIOError):
                os.write(self._wakeup, b"\0")  # SIGHUP may have come with it
        elif number != signal.SIGHUP:  # a terminal that is closed sends several: the kernel does, and the shell
            os._exit(128 + number)

    def _lost_terminal(self) -> bool:
        return self._had_terminal and not _has_terminal()


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal: tty(4)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
