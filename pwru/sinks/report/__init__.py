"""A page that shows a trace: what was asked, what became of each packet, where it was and when. Written at the end."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Sequence
from shlex import join
from typing import Any

from pwru.errors import PwruError
from pwru.record.account import Account
from pwru.record.packets import Packets
from pwru.record.schema import Record
from pwru.sinks import Sink, Source
from pwru.sinks.report.data import SLOW, STEPS, Data
from pwru.sinks.report.page import page
from pwru.sinks.time import EventClock


class Report(Sink):
    """Keeps what the page shows, up to a limit, and writes it with the account of the trace."""

    tick = 1.0  # packets that are not seen for long have to be noticed

    def __init__(self, path: str, *, json: bool = False, command: Sequence[str] = (), limit: int = STEPS) -> None:
        """`json`: the account is an object. `command`: what the user typed after `pwru`. `limit`: see Data.

        Raises PwruError if the file cannot be written.
        """
        self._path, self._json, self._command, self._limit = path, json, tuple(command), limit
        self._failure: PwruError | None = None
        self._data: Data | None = None
        self._clock = EventClock()
        self._end: int | None = None  # when the trace ended, as events have the time
        self._offset = 0
        self._is_new = not os.path.exists(path)
        self._is_written = False
        try:
            # Packets are nobody else's business: readable by the owner only.
            self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            raise self._error(error) from None

    def open(self) -> None:
        """Nothing is left to be opened: to be able to write, even as another user, is worth knowing early."""

    def begin(self, source: Source) -> None:
        self._about = source.about
        self._packets = Packets(source.schema, source.names, source.numbers)
        self._data = Data(source.schema, source.names, source.lives, limit=self._limit)
        self._names = source.names

    def write(self, records: list[Record]) -> int:
        assert self._data
        if not self.events:
            self._offset = self._names.clock_offset()
        self._clock.set(records[-1][5])  # type: ignore[arg-type]  # Packets wants a time
        self._data.add(self._packets.add(records))
        self.events += len(records)
        self.packets, self.not_followed = self._packets.begun, self._packets.not_followed
        return 0

    def idle(self) -> None:
        if self._data and self.events:
            self._data.add(self._packets.sweep(self._clock.now()))

    def ending(self) -> None:
        if self._end is None:
            self._end = self._clock.now()

    def flush(self) -> None:
        assert self._data
        self.ending()
        self._data.add(self._packets.drain())
        self._data.settle(self._end or 0)

    def finish(self, account: Account) -> None:
        assert self._data
        about = self._about
        release, _, machine = about.kernel
        run: dict[str, Any] = {
            "command": join(["pwru", *(about.command or self._command)]),
            "read": join(["pwru", *self._command]) if about.command else "",
            "kernel": f"{release} {machine}",
            "backend": about.backend,
            "version": about.version,
            "zone": time.localtime().tm_gmtoff // 60,
            "account": account.text(),
            "notice": self._notice(),
        }
        data = self._data.finish(run)
        data["run"]["began"] = (data["run"].pop("origin") + self._offset) / 1e6  # in ms, as JavaScript counts
        try:
            self._put(page(data))
        except OSError as error:
            self._failure = self._error(error)

    def account(self, account: Account) -> str:
        return account.printed(as_json=self._json)

    def close(self) -> None:
        if self._fd is None:
            return
        os.close(self._fd)
        self._fd = None
        if self._is_new and not self._is_written:  # nothing was traced: no empty file stays behind
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    @property
    def failure(self) -> PwruError | None:
        return self._failure

    def _put(self, text: bytes) -> None:
        assert self._fd is not None
        self._is_written = True
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.ftruncate(self._fd, 0)
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def _error(self, error: OSError | ValueError) -> PwruError:
        reason = error.strerror if isinstance(error, OSError) else "a NUL is in the name"
        return PwruError(f"`report`: cannot write {self._path or repr('')}: {reason}")

    def _notice(self) -> str:
        """Return what the page does not show."""
        assert self._data
        data, said = self._data, []
        if data.left_out:
            wrong = f", {data.left_out_wrong} of which went wrong, too" if data.left_out_wrong else ""
            said.append(
                f"All of the first packets are here, and of those after them only the ones that were dropped, stuck, "
                f"retransmitted or {SLOW} times slower than usual. {data.left_out} packets are left out{wrong}."
            )
        elif data.left_out_steps:
            said.append(f"Of packets with many steps {data.left_out_steps} steps are left out.")
        if self._packets.evicted:
            said.append(f"{self._packets.evicted} packets are cut off: too many were on their way at once.")
        return " ".join(said)
