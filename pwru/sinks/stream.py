"""Where lines go: standard output, or a file that gives way to a new one when it is full.

A full trace.log becomes trace-2026-11-25T07-02-03.123.log, as in the Go tool, but the time is UTC, which is never put
back; such files are called backups here. A thread removes and compresses them: gzip must not hold up a trace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

from pwru.commands.messages import say
from pwru.errors import PwruError, printable

if TYPE_CHECKING:
    from queue import SimpleQueue

    from pwru.commands.options import Options

_TIME = "%Y-%m-%dT%H-%M-%S"
_UNFINISHED = ".gz.tmp"
_CHUNK = 1 << 18
_QUIET_SECONDS = 0.5
# How long a reader may take nothing, in seconds, before a trace that is to end goes without it.
GRACE = 1.0


def writer(options: Options) -> Writer:
    """Raises PwruError if it cannot be written to."""
    if options.output_file is None:
        return Writer()
    return File(
        options.output_file,
        options.output_file_max_size << 20,
        Backups(
            options.output_file,
            options.output_file_max_age,
            options.output_file_max_backups,
            options.output_file_compress,
        ),
    )


class Writer:
    """Standard output.

    A pipe gets whole lines at a time, of which it takes all or none (pipe(7): PIPE_BUF), and only when it has room: a
    trace that is to end does not wait for a reader that has stopped, and what was printed is never half a line. The
    same for sockets and terminals, but those may take a part, and others may have made them non-blocking.
    """

    name = "standard output"
    fd = 1

    def __init__(self) -> None:
        if sys.stdout is None:
            raise PwruError("standard output is closed: there is nowhere to write events to; see --output-file")
        self._watch()

    def begin(self, header: str) -> None:
        """Writes what stands above the first line."""
        self.write(header)

    def give_up_after(self, stop_fd: int) -> None:
        """Once this can be read, a reader without room is waited for no longer than GRACE."""
        self._room_or_stop.register(stop_fd, select.POLLIN)

    def write(self, text: str) -> int:
        """How many lines it gave up, the last ones. Raises BrokenPipeError when the reader has gone."""
        return self._put(text.encode())

    def close(self) -> None:
        """Waits for what is still being done."""

    def _watch(self) -> None:
        mode = os.fstat(self.fd).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(self.fd)
        self._room, self._room_or_stop = select.poll(), select.poll()
        self._room.register(self.fd, select.POLLOUT)
        self._room_or_stop.register(self.fd, select.POLLOUT)

    def _put(self, data: bytes) -> int:
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
        """Waits for it, or for the stop and the time of grace after that."""
        ready = self._room_or_stop.poll()
        return any(fd == self.fd for fd, _ in ready) or bool(self._room.poll(GRACE * 1000))


class File(Writer):
    """A file that is appended to. No line is ever in two files, and each file begins with the header.

    What is written at once, the events of one look into the ring buffer, stays together if a file has room for it: so
    does what takes more than one line.
    """

    def __init__(self, path: str, max_bytes: int, backups: Backups) -> None:
        self.name = path
        self._path = os.path.realpath(path)  # a symbolic link stays what it is
        self._header = b""
        self._max_bytes = max_bytes
        self._backups = backups
        self._open(path)
        self._watch()

    def begin(self, header: str) -> None:
        self._header = header.encode()
        if not self._size():
            self._put(self._header)
        self._backups.tend()

    def write(self, text: str) -> int:
        data = text.encode()
        while data and len(data) > (room := self._max_bytes - self._size()):
            if self._size() > len(self._header):
                self._rotate()
                continue
            end = data.rfind(b"\n", 0, max(room, 0)) + 1 or data.find(b"\n") + 1 or len(data)
            self._put(data[:end])
            data = data[end:]
        return self._put(data)

    def close(self) -> None:
        self._backups.close()
        os.close(self.fd)

    def _size(self) -> int:
        """0 for what cannot be full: a pipe, a device."""
        status = os.fstat(self.fd)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def _open(self, path: str) -> None:
        try:
            # Packets are nobody else's business: readable by the owner only.
            self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PwruError(f"--output-file: cannot write {self.name}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            return
        try:
            # Two that rotate one file would compress and remove what the other still writes.
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PwruError(f"--output-file: another process writes to {self.name}; name another file") from None
        except OSError:
            pass  # there are file systems without locks

    def _rotate(self) -> None:
        full = self.fd
        try:
            # It may have been moved away, and another one have taken its name.
            if os.path.samestat(os.stat(self._path), os.fstat(full)):
                os.rename(self._path, self._backups.new())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise PwruError(
                f"--output-file: {self.name} is full and cannot be renamed: {error.strerror};"
                " name one in a folder that can be written, or see --output-file-max-size"
            ) from None
        self._open(self._path)  # through /dev/stdout it would be the full one again
        os.close(full)
        if not self._size():
            self._put(self._header)
        self._backups.tend()


class Backups:
    """The files that a full one became: their names, how long they are kept, and that they are compressed."""

    def __init__(self, path: str, max_days: int = 0, max_count: int = 0, compress: bool = False) -> None:
        """0 days or files: no limit."""
        self._root, self._extension = os.path.splitext(os.path.realpath(path))
        self._max_days = max_days
        self._max_count = max_count
        self._compress = compress
        self._newest = 0
        self._work: SimpleQueue[bool] | None = None
        self._thread: threading.Thread | None = None

    def new(self) -> str:
        """A path for one from now, later than all before it whatever clocks do: names tell which is the oldest."""
        self._newest = max(self._newest + 1, time.time_ns() // 10**6)
        while True:
            path = f"{self._root}-{_stamp(self._newest)}{self._extension}"
            if not os.path.lexists(path) and not os.path.lexists(f"{path}.gz"):
                return path
            self._newest += 1

    def tend(self) -> None:
        """Has the thread look what is to be removed or compressed."""
        if not (self._max_days or self._max_count or self._compress):
            return
        if self._work is None:
            from queue import SimpleQueue

            self._work = SimpleQueue()
            self._thread = threading.Thread(target=self._run, args=(self._work,), daemon=True)
            self._thread.start()
        self._work.put(True)

    def close(self) -> None:
        """Waits until all is done. To end sooner harms nothing: the next run does the rest."""
        if self._work is None or self._thread is None:
            return
        self._work.put(False)
        self._thread.join(_QUIET_SECONDS)
        if self._thread.is_alive():
            say("Compressing what is full..")
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
                say(f"Not compressed: {printable(str(error.filename))}: {error.strerror}.")

    def _prune(self) -> list[str]:
        """Removes what is too old or too many; those of the rest that are not compressed, oldest first."""
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
        kept = {when for when in times[-self._max_count :] if when >= oldest}
        for when, files in backups.items():
            for kind, path in files.items():
                if when not in kept or kind == _UNFINISHED:
                    _remove(path)
        return [backups[when][""] for when in times if when in kept and "" in backups[when]]


def _stamp(milliseconds: int) -> str:
    return f"{time.strftime(_TIME, time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03}"


def _is_time(stamp: str) -> bool:
    try:
        time.strptime(stamp[:-4], _TIME)
    except ValueError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        say(f"Not removed: {printable(path)}: {error.strerror}.")


def _gzip(path: str) -> None:
    """Raises OSError, and then the file is what it was. The compressed one gets its name when all of it is on disk."""
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
            _remove(unfinished)
            raise OSError(error.errno, os.strerror(error.errno or errno.EIO), path) from None
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
