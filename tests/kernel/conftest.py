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
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from vmtest import kernels
from vmtest.guest import complaints

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
    # on a machine others may have such names
    n = Network() if KERNEL else Network(f"client-{os.getpid()}", f"server-{os.getpid()}")
    try:
        _lay_out(n)
        yield n
    finally:
        for netns in (n.client, n.server):
            sh("ip", "netns", "delete", netns, check=False)


def _lay_out(n: Network) -> None:
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
    sh("ip", "netns", "exec", network.server, "nft", "-f", "-", text=rules)
    yield port
    sh("ip", "netns", "exec", network.server, "nft", "delete", "table", "inet", "test")


def connect(network: Network, address: str, port: int) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    code = f"import socket; s = socket.socket(socket.{family}); s.settimeout(0.2); s.connect_ex(({address!r}, {port}))"
    network.python(network.client, code)


def send_udp(network: Network, count: int, size: int = 64) -> None:
    """UDP from port 7777 to port 9999, where nobody listens; all of it arrives.

    A receiver that is slowed down by a tracer takes net.core.netdev_max_backlog (1000) packets, and no more.
    """
    code = f"""
import ctypes, socket, time

def enter(netns):
    with open("/run/netns/" + netns) as file:
        assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0

def received():
    snmp.seek(0)
    names, values = [line.split() for line in snmp if line.startswith("Udp: ")]
    return int(values[names.index("NoPorts")])

def until_received(count):
    while received() < count:
        time.sleep(0.001)

enter({network.server!r})
snmp = open("/proc/self/net/snmp")
enter({network.client!r})
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7777))
before = received()
for number in range({count}):
    if number % 500 == 0:
        until_received(before + number)
    s.sendto(bytes({size}), ({network.destination!r}, 9999))
until_received(before + {count})
"""
    network.python(network.client, code)


def send_udp6(network: Network) -> None:
    """The same by IPv6, once."""
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
