"""pwru as a user starts it, and what it printed."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from .leftovers import PATIENCE, wait_for

COLUMNS = ["SKB", "CPU", "PROCESS", "NETNS", "MARK/x", "IFACE", "PROTO", "MTU", "LEN", "TUPLE", "FUNC"]
LINE = re.compile(
    r"(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +(?P<process>.+?:\d+) +(?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?P<iface>\S+) +"
    r"(?P<proto>0x[0-9a-f]{4}) (?P<mtu>\d+) +(?P<len>\d+) +(?P<tuple>\S+->\S+\))? +(?P<func>\S.*)"
)
PIPE_SIZE = 1 << 16
TOTALS = re.compile(r"^(\d+) events? of (?:at least )?\d+ packets?, (\d+) lost", re.MULTILINE)


@dataclass
class Trace:
    """One run of pwru. `with Trace(...) as t:` is ready for traffic; after `t.stop()` all of its output can be read."""

    folder: Path
    arguments: tuple[str, ...]
    # The command that runs it, if any.
    launcher: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def command(self) -> list[str]:
        return [*self.launcher, "pwru", *self.arguments]

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def __enter__(self) -> Self:
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=err)
        self.wait_for(lambda: "Listening for events.." in self.err)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; fail if pwru ends before that, or after PATIENCE seconds."""

        def holds() -> bool:
            if condition():
                return True
            assert self.process.poll() is None, f"pwru ended with {self.process.returncode}: {self.err}{self.out}"
            return False

        wait_for(holds, lambda: f"nothing came: {self.err}{self.out}")

    def wait_for_func(self, pattern: str) -> None:
        self.wait_for(lambda: re.search(pattern, self.out) is not None)

    def wait_until_it_ends(self) -> None:
        """Wait for its end at the limit of lines."""
        assert self.process.wait(PATIENCE) == 0, self.err

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of text by column; every line must be one."""
        header, *lines = self.out.splitlines()
        assert header.split() == COLUMNS
        rows = []
        for line in lines:
            match = LINE.fullmatch(line)
            assert match, line
            rows.append(match.groupdict())
        return rows

    def objects(self) -> list[dict[str, Any]]:
        """The events so far, with --output-json."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def account(self) -> dict[str, Any]:
        """The last line on stderr, with --output-json."""
        account: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        return account

    def totals(self) -> tuple[int, int]:
        """Events printed and events lost, by the last line."""
        if self.err.splitlines()[-1].startswith("{"):
            account = self.account()
            return account["events"], account["lost"]["ring_buffer_full"] + account["lost"]["ring_buffer_busy"]
        match = TOTALS.search(self.err)
        assert match, self.err
        return int(match[1]), int(match[2])


class Piped(Trace):
    """A trace whose output is a pipe; `out` is what was read from it so far."""

    got = b""

    @property
    def out(self) -> str:
        return self.got.decode()

    @property
    def pipe(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout

    def __enter__(self) -> Self:
        with (self.folder / "err").open("wb") as err:
            self.process = subprocess.Popen(["pwru", *self.arguments], stdout=subprocess.PIPE, stderr=err, bufsize=0)
        self.wait_for(lambda: "Listening for events.." in self.err)
        return self

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        self.pipe.close()

    def sleeps(self) -> bool:
        """Return whether it is in epoll_wait(…, timeout=-1)."""
        call = Path(f"/proc/{self.process.pid}/syscall").read_text().split()
        return len(call) > 4 and int(call[4], 16) & 0xFFFFFFFF == 0xFFFFFFFF

    def read_until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert self._read(), "the end came too soon"

    def read_to_the_end(self) -> None:
        while self._read():
            pass

    def _read(self) -> int:
        assert select.select([self.pipe], [], [], PATIENCE)[0], f"nothing came: {self.err}"
        some = self.pipe.read(PIPE_SIZE)
        self.got += some
        return len(some)


Start = Callable[..., Trace]


def funcs(trace: Trace) -> list[str]:
    return [row["func"] for row in trace.rows()]


def in_order(expected: list[str], seen: list[str]) -> bool:
    """Return whether `expected` is a subsequence of `seen`."""
    unmatched = iter(seen)
    return all(any(name == other for other in unmatched) for name in expected)


def fails(*arguments: str, **environment: str) -> str:
    """Run pwru where it must fail, with status 1, one line on stderr and nothing on stdout. Return the line."""
    done = subprocess.run(
        ["pwru", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("pwru: ")
    return line
