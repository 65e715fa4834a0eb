"""A file that gives way to a new one when it is full.

A full trace.log becomes trace-2026-11-25T07-02-03.123.log, as in the Go tool, but the time is UTC, which is never set
back; such files are called backups here. A thread removes and compresses them: gzip must not hold up a trace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pwru.errors import PwruError, printable
from pwru.sinks.stream import Stream

if TYPE_CHECKING:
    from queue import SimpleQueue

_TIME = "%Y-%m-%dT%H-%M-%S"
_UNFINISHED = ".gz.tmp"
_CHUNK = 1 << 18
QUIET_SECONDS = 0.5


class File(Stream):
    """A file that is appended to. No line is ever in two files, and each file begins with the header.

    What is written at once, events with lines of their own, stays together if a file has room for it.
    """

    def __init__(
        self, path: str, max_bytes: int, backups: Backups, *, whole: bool = False, parameter: str = "output_file"
    ) -> None:
        """Open what exists; open() creates the file. Raises PwruError if it cannot be written.

        `whole`: see Stream; the file begins anew then. `parameter`: as messages call it.
        """
        self.name = path
        self.whole = whole
        self._parameter = parameter
        self._path = os.path.realpath(path)  # a symbolic link stays what it is
        self._header = b""
        self._max_bytes = max_bytes
        self._backups = backups
        try:
            os.stat(path)
        except FileNotFoundError:
            self._check_folder()
        except OSError as error:
            raise self._error(error.strerror) from None
        else:
            self.watch(self._open(path))  # now: others are kept out, and a pipe may wait for its reader

    def open(self) -> None:
        if self.fd is None:
            self.watch(self._open(self.name))
        if self.whole and self._size():
            os.ftruncate(self.fd, 0)  # type: ignore[arg-type]  # watch() has set it

    def begin(self, header: bytes) -> None:
        self._header = header
        self._begin_file()
        if self.failure:
            raise self.failure

    def write(self, text: str) -> int:
        data = text.encode()
        if self.may_block:  # a pipe is never full for good, and may give up lines
            return self.put(data)
        while data and len(data) > (room := self._max_bytes - self._size()):
            if self._size() > len(self._header) and not self.failure:
                self._rotate()
                continue
            end = data.rfind(b"\n", 0, max(room, 0)) + 1 or data.find(b"\n") + 1 or len(data)
            given_up = self.put(data[:end])
            data = data[end:]
            if given_up:
                return given_up + len(data)
        return self.put(data)

    def make_room(self, size: int, last: bytes) -> None:
        if self._size() > len(self._header) and self._size() + size > self._max_bytes and not self.failure:
            self.put(last)
            self._rotate()

    def reopen(self, last: bytes = b"") -> None:
        assert self.fd is not None
        try:
            if not self._has_name():
                self._switch(last)
        except PwruError as error:
            self._backups.say(f"{error}; the trace goes on in the file that had this name before.")

    def close(self) -> None:
        self._backups.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _size(self) -> int:
        """Return 0 for what cannot be full: a pipe, a device."""
        assert self.fd is not None
        status = os.fstat(self.fd)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def _error(self, reason: str | None) -> PwruError:
        return PwruError(f"`{self._parameter}`: cannot write {self.name or repr('')}: {reason}")

    def _check_folder(self) -> None:
        """Raise PwruError if the folder takes no files: one without a name shows, which leaves nothing behind.

        A file system that has no such files has to show it by the file itself.
        """
        flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
        try:
            os.close(os.open(os.path.dirname(self._path) if self.name else "", flags, 0o600))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise self._error(error.strerror) from None
            self.watch(self._open(self.name))

    def _open(self, path: str) -> int:
        try:
            # Packets are nobody else's business: readable by the owner only.
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._error(error.strerror) from None
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                # Two that rotate one file would compress and remove what the other still writes.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise PwruError(f"`{self._parameter}`: another process writes to {self.name}; name another file") from None
        except OSError:
            pass  # there are file systems without locks
        return fd

    def _rotate(self) -> None:
        try:
            if self._has_name():
                os.rename(self._path, self._backups.new())
            self._switch()
        except PwruError as error:
            self.failure = error
        except OSError as error:
            self.failure = PwruError(
                f"`{self._parameter}`: {self.name} is full and cannot be renamed: {error.strerror};"
                " name one in a folder that can be written, or see `output_file_max_size`"
            )

    def _has_name(self) -> bool:
        """Return whether the file still has its name: it may have been moved away, and another one have taken it."""
        assert self.fd is not None
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self.fd))
        except FileNotFoundError:
            return False

    def _switch(self, last: bytes = b"") -> None:
        """Go on in the file that has the name now. Raises PwruError, and stays in this one, if that is impossible."""
        before = self.fd
        assert before is not None
        fd = self._open(self._path)  # through /dev/stdout it would be the same one again
        if last:
            self.put(last)
        self.watch(fd)
        os.close(before)
        self.files += 1
        self._begin_file()

    def _begin_file(self) -> None:
        if not (size := self._size()):
            self.put(self._header)
        elif not self.whole and not self._ends_with_line(size):  # whoever wrote it was killed, or the disk was full
            self.put(b"\n")
        self._backups.tend()

    def _ends_with_line(self, size: int) -> bool:
        try:
            with open(self._path, "rb") as file:
                return os.pread(file.fileno(), 1, size - 1) == b"\n"
        except OSError:
            return True  # it may be written, but not read


class Backups:
    """The files that a full one became: their names, how long they are kept, and that they are compressed."""

    def __init__(
        self,
        path: str,
        *,
        max_days: int = 0,
        max_count: int = 0,
        compress: bool = False,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> None:
        """0 days or files: no limit. Raises OSError if `path` begins in a directory that was removed."""
        self._root, self._extension = os.path.splitext(os.path.realpath(path))
        self._max_days = max_days
        self._max_count = max_count
        self._compress = compress
        self.say = on_message
        self._newest = 0
        self._work: SimpleQueue[bool] | None = None
        self._thread: threading.Thread | None = None

    def new(self) -> str:
        """Return a path for a backup made now, later than all earlier ones even if the clock was set back."""
        self._newest = max(self._newest + 1, time.time_ns() // 10**6)
        while True:
            path = f"{self._root}-{_stamp(self._newest)}{self._extension}"
            if not os.path.lexists(path) and not os.path.lexists(f"{path}.gz"):
                return path
            self._newest += 1

    def tend(self) -> None:
        """Have the thread remove and compress what is due."""
        if not (self._max_days or self._max_count or self._compress):
            return
        if self._work is None:
            from queue import SimpleQueue

            self._work = SimpleQueue()
            self._thread = threading.Thread(target=self._run, args=(self._work,), daemon=True)
            self._thread.start()
        self._work.put(True)

    def close(self) -> None:
        """Wait until all is done. To end sooner does no harm: the next run does the rest."""
        if self._work is None or self._thread is None:
            return
        self._work.put(False)
        self._thread.join(QUIET_SECONDS)
        if self._thread.is_alive():
            self.say("Compressing rotated files …")
            self._thread.join()

    def _run(self, work: SimpleQueue[bool]) -> None:
        with contextlib.suppress(OSError):  # on Linux a thread's own: the trace goes first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while work.get():
            try:
                # The newest first: the oldest may be gone before its turn comes.
                while (plain := self._prune()) and self._compress:
                    _gzip(plain[-1])
            except OSError as error:
                self.say(f"Not compressed: {printable(str(error.filename))}: {error.strerror}.")

    def _prune(self) -> list[str]:
        """Remove backups that are too old or too many; return the others that are not compressed, oldest first."""
        name = re.compile(
            re.escape(os.path.basename(self._root))
            + r"-([0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?:-[0-9]{2}){2}\.[0-9]{3})"
            + re.escape(self._extension)
            + rf"(|\.gz|{re.escape(_UNFINISHED)})"
        )
        backups: dict[str, dict[str, str]] = {}
        with os.scandir(os.path.dirname(self._root)) as entries:
            for entry in entries:
                match = name.fullmatch(entry.name)
                if match and _is_time(match[1]) and entry.is_file(follow_symlinks=False):
                    backups.setdefault(match[1], {})[match[2]] = entry.path
        # The same time twice is one file, whose compression was interrupted.
        times = sorted(when for when, files in backups.items() if files.keys() != {_UNFINISHED})
        oldest = _stamp(time.time_ns() // 10**6 - self._max_days * 86_400_000) if self._max_days else ""
        remaining = {when for when in times[-self._max_count :] if when >= oldest}
        for when, files in backups.items():
            for suffix, path in files.items():
                if when not in remaining or suffix == _UNFINISHED:
                    self._remove(path)
        return [backups[when][""] for when in times if when in remaining and "" in backups[when]]

    def _remove(self, path: str) -> None:
        try:
            os.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.say(f"Not removed: {printable(path)}: {error.strerror}.")


def _stamp(milliseconds: int) -> str:
    return f"{time.strftime(_TIME, time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03}"


def _is_time(stamp: str) -> bool:
    try:
        time.strptime(stamp[:-4], _TIME)
    except ValueError:
        return False
    return True


def _gzip(path: str) -> None:
    """Compress a file. Raises OSError and leaves it as it was; the .gz gets its name once all of it is on disk."""
    import gzip

    unfinished = path + _UNFINISHED
    with open(path, "rb") as file:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as target:
                with gzip.GzipFile(fileobj=target, mode="wb", filename="") as compressed:
                    while chunk := file.read(_CHUNK):
                        compressed.write(chunk)
                target.flush()
                os.fsync(fd)
            os.rename(unfinished, f"{path}.gz")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.remove(unfinished)
            raise OSError(error.errno, os.strerror(error.errno or errno.EIO), path) from None
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
