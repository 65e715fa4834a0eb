"""Ctrl-C and SIGTERM ask for the end; asked again, the process ends at once."""

import os
import signal
from types import FrameType
from typing import Any, Self

from pwru.errors import PwruError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """`asked` tells, and `fd` polls readable then. The handlers of before are back when it is left."""

    def __init__(self) -> None:
        self.asked = False
        self.fd, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._wakeup)

    def check(self) -> None:
        if self.asked:
            raise PwruError("interrupted before everything was attached")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
