"""What the kernel tests work with: two network namespaces joined by a veth pair, and pwru as a user starts it.

They run as root in a guest (`python -m vmtest --tests KERNEL`), where the installed product is on the path. A guest
under emulation is slow, so nothing here sleeps for a while and hopes: every wait is for an event.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

PATIENCE = 120.0
# The columns of a line: SKB CPU PROCESS NETNS MARK IFACE PROTO MTU LEN [TUPLE] FUNC [CALLER]
LINE = re.compile(
    r"(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +(?P<process>.+?:\d+) +(?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?P<iface>\S+) +"
    r"(?P<proto>0x[0-9a-f]{4}) (?P<mtu>\d+) +(?P<len>\d+) +(?P<tuple>\S+->\S+\))? +(?P<func>\S.*)"
)
TOTALS = re.compile(r"^(\d+) events?, (\d+) lost", re.MULTILINE)


@dataclass
class Network:
    """Namespaces `client` and `server`; 10.9.0.1 ↔ 10.9.0.2 and fd09::1 ↔ fd09::2 over veth devices v0 and v1."""

    client: str = "client"
    server: str = "server"
    source: str = "10.9.0.1"
    destination: str = "10.9.0.2"
    source6: str = "fd09::1"
    destination6: str = "fd09::2"

    def run(self, netns: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return sh("ip", "netns", "exec", netns, *command, check=check)

    def ping(self, *options: str, to: str | None = None) -> None:
        self.run(self.client, "ping", "-n", "-c1", "-W5", *options, to or self.destination)

    def python(self, netns: str, code: str) -> None:
        self.run(netns, sys.executable, "-c", code)


def sh(*command: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    n = Network()
    for netns in (n.client, n.server):
        sh("ip", "netns", "add", netns)
    sh("ip", "link", "add", "v0", "netns", n.client, "type", "veth", "peer", "name", "v1", "netns", n.server)
    for netns, device, addresses in (
        (n.client, "v0", (n.source, n.source6)),
        (n.server, "v1", (n.destination, n.destination6)),
    ):
        sh("ip", "-n", netns, "address", "add", f"{addresses[0]}/24", "dev", device)
        sh("ip", "-n", netns, "address", "add", f"{addresses[1]}/64", "dev", device, "nodad")
        sh("ip", "-n", netns, "link", "set", device, "up")
        sh("ip", "-n", netns, "link", "set", "lo", "up")
    # Neighbours and routes settle before any trace looks.
    n.ping("-w30")
    n.ping("-6", "-w30", to=n.destination6)
    yield n
    for netns in (n.client, n.server):
        sh("ip", "netns", "delete", netns)


@dataclass
class Trace:
    """One run of pwru: `with Trace(...) as t:` is ready for traffic; after `t.stop()` all it said can be read."""

    folder: Path
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def __enter__(self) -> Self:
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.process = subprocess.Popen(["pwru", *self.arguments], stdout=out, stderr=err)
        self.wait_for(lambda: "Listening for events.." in self.err)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds; fails when pwru ends before that, or after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, f"pwru ended with {self.process.returncode}: {self.err}{self.out}"
            assert time.monotonic() < deadline, f"nothing came: {self.err}{self.out}"
            time.sleep(0.02)

    def wait_for_func(self, pattern: str) -> None:
        self.wait_for(lambda: re.search(pattern, self.out) is not None)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of text by column; every line must be one."""
        header, *lines = self.out.splitlines()
        assert header.split() == [
            "SKB",
            "CPU",
            "PROCESS",
            "NETNS",
            "MARK/x",
            "IFACE",
            "PROTO",
            "MTU",
            "LEN",
            "TUPLE",
            "FUNC",
        ]
        rows = []
        for line in lines:
            match = LINE.fullmatch(line)
            assert match, line
            rows.append(match.groupdict())
        return rows

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def totals(self) -> tuple[int, int]:
        """Events printed and lost, as the last line says."""
        match = TOTALS.search(self.err)
        assert match, self.err
        return int(match[1]), int(match[2])


@pytest.fixture
def pwru(tmp_path: Path) -> Callable[..., Trace]:
    """`pwru(*arguments)` is a Trace; each gets its own folder."""
    count = iter(range(1000))

    def start(*arguments: str) -> Trace:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        return Trace(folder, arguments)

    return start


def fails(*arguments: str, **environment: str) -> str:
    """Runs pwru where it must fail: status 1, one line on stderr, nothing on stdout. Returns the line."""
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


def in_order(expected: list[str], seen: list[str]) -> bool:
    """Whether `expected` is a subsequence of `seen`."""
    rest = iter(seen)
    return all(any(name == other for other in rest) for name in expected)
