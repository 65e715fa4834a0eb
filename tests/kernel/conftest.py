"""What the kernel tests work with: two network namespaces joined by a veth pair, and pwru as a user starts it.

They run as root in a guest (`python -m vmtest --tests KERNEL`), where the installed product is on the path. A guest
under emulation is slow, so nothing here sleeps for a while and hopes: every wait is for an event. What is traced by
tracepoints also runs on the machine itself (`make test-native`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from vmtest import kernels
from vmtest.guest import complaints
from vmtest.network import Network, sh
from vmtest.udp import send_udp

__all__ = ["Network", "send_udp", "sh"]

# The kernel that is booted here, by the guest harness's list; None on a machine of which nothing is known.
KERNEL = kernels.find([os.environ["VMTEST_KERNEL"]])[0] if "VMTEST_KERNEL" in os.environ else None
# Which backends have to work here, best first.
BACKENDS = KERNEL.backends if KERNEL else ("tracepoint",)

PATIENCE = 120.0
# The columns of a line: SKB CPU PROCESS NETNS MARK IFACE PROTO MTU LEN [TUPLE] FUNC [CALLER]
LINE = re.compile(
    r"(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +(?P<process>.+?:\d+) +(?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?P<iface>\S+) +"
    r"(?P<proto>0x[0-9a-f]{4}) (?P<mtu>\d+) +(?P<len>\d+) +(?P<tuple>\S+->\S+\))? +(?P<func>\S.*)"
)
TOTALS = re.compile(r"^(\d+) events? of \d+ packets?, (\d+) lost", re.MULTILINE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked with one of kernels.RUNS_ON runs on those kernels only; `-m one_kernel` has it run on any."""
    if KERNEL and not config.option.markexpr:
        foreign = {marker for marker, names in kernels.RUNS_ON.items() if KERNEL.name not in names}
        elsewhere = [item for item in items if any(item.get_closest_marker(marker) for marker in foreign)]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture(autouse=True)
def no_complaint_of_the_kernel() -> Iterator[None]:
    """Fails the test during which the kernel's log got a WARNING, BUG or Oops.

    A read of /dev/kmsg gives one message, "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT", and EPIPE when messages were overwritten
    before they were read: linux/Documentation/ABI/testing/dev-kmsg.
    """
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(fd, 0, os.SEEK_END)
    yield
    log = []
    while True:
        try:
            log.append(os.read(fd, 8192).decode(errors="replace").partition(";")[2])
        except BlockingIOError:
            break
        except BrokenPipeError:
            continue
    os.close(fd)
    found = complaints("".join(log))
    assert not found, f"the kernel complained: {found[0]}"


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    # on a machine others may have such names
    with Network() if KERNEL else Network(f"client-{os.getpid()}", f"server-{os.getpid()}") as made:
        yield made


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

    def wait_until_it_ends(self) -> None:
        """By itself, at its limit of lines."""
        assert self.process.wait(PATIENCE) == 0, self.err

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
        last = self.err.splitlines()[-1]
        if last.startswith("{"):
            account = json.loads(last)
            return account["events"], account["lost"]["ring_buffer_full"] + account["lost"]["ring_buffer_busy"]
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


@pytest.fixture
def firewall(network: Network) -> Iterator[int]:
    """A port that the server drops, by IPv4 and IPv6."""
    port = 8080
    rules = f"""
    table inet test {{
        chain input {{
            type filter hook input priority 0
            tcp dport {port} drop
        }}
    }}
    """
    network.run(network.server, "nft", "-f", "-", text=rules)
    yield port
    network.run(network.server, "nft", "delete", "table", "inet", "test")


def connect(network: Network, address: str, port: int) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    code = f"import socket; s = socket.socket(socket.{family}); s.settimeout(0.2); s.connect_ex(({address!r}, {port}))"
    network.python(network.client, code)


def send_udp6(network: Network) -> None:
    """Send one datagram by IPv6, from the port and to the port of send_udp()."""
    network.python(
        network.client,
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('', 7777))\n"
        f"s.sendto(bytes(64), ('{network.destination6}', 9999))",
    )


def netns_inode(netns: str) -> int:
    return os.stat(f"/run/netns/{netns}").st_ino


def funcs(trace: Trace) -> list[str]:
    return [row["func"] for row in trace.rows()]


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
