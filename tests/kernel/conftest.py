"""Fixtures of the kernel tests: two network namespaces joined by a veth pair, pwru as a user starts it.

The tests run as root in a guest (`python -m vmtest --tests KERNEL`), where the installed product is on the path. A
guest under emulation is slow, so nothing here sleeps for a while and hopes: every wait is for an event. Tests of
tracepoints also run on the machine itself (`make test-native`).
"""

from __future__ import annotations

import os
import pwd
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtest import kernels
from vmtest.guest import complaints
from vmtest.network import Network
from vmtest.udp import Udp

from .backends import KERNEL
from .leftovers import PATIENCE, traces, wait_for
from .tracing import Start, Trace


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--once", action="store_true", help="run a test that is for some kernels on one of them only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what is marked with one of kernels.RUNS_ON on those kernels only; with `-m one_kernel`, on any.

    What is marked `long` runs only with `-m`. What is marked `last` comes after all others.
    """
    if KERNEL and not config.option.markexpr:
        once = config.getoption("--once")
        elsewhere = [
            item for item in items if item.get_closest_marker("long") or KERNEL.name not in _runs_on(item, once=once)
        ]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def _runs_on(item: pytest.Item, *, once: bool) -> list[str]:
    """Return the kernels that a test runs on; its name tells on which one it runs `once`.

    Kernels have different backends, and other things that tests may be skipped without: those run on all their kernels.
    """
    names = [kernel.name for kernel in kernels.KERNELS]
    marked = [runs_on for marker, runs_on in kernels.RUNS_ON.items() if item.get_closest_marker(marker)]
    names = [name for name in names if all(name in runs_on for runs_on in marked)]
    if not once or not marked:
        return names
    if differs := item.get_closest_marker("differs"):
        return list(differs.args) or names
    parameters = getattr(getattr(item, "callspec", None), "params", ())
    if "backend" in parameters or any(marker.name == "skipif" for marker in item.own_markers):
        return names
    place = zlib.crc32(item.nodeid.partition("[")[0].encode()) % len(names)
    return names[place : place + 1]


@pytest.fixture(autouse=True)
def no_complaint_of_the_kernel() -> Iterator[None]:
    """Fail the test during which the kernel's log got a WARNING, BUG or Oops.

    A read of /dev/kmsg returns one message, "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT", and EPIPE if messages were overwritten
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
    warnings = complaints("".join(log))
    assert not warnings, f"the kernel complained: {warnings[0]}"


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test the kernel has what it had before. Probes are removed one by one, after the tracer has ended."""
    wait_for(lambda: not any(traces().values()))  # of tests without this fixture; nobody else traces in a guest
    before = traces()
    yield
    deadline = time.monotonic() + PATIENCE
    while (after := traces()) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert after == before


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    # On a machine others may have such names.
    with Network() if KERNEL else Network(f"client-{os.getpid()}", f"server-{os.getpid()}") as network:
        yield network


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


@pytest.fixture
def udp(network: Network) -> Iterator[Udp]:
    with Udp(network) as udp:
        yield udp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only nobody may write to."""
    nobody = pwd.getpwnam("nobody")
    folder = tmp_path / "of-nobody"
    folder.mkdir(mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    return folder


@pytest.fixture
def pwru(tmp_path: Path) -> Start:
    """`pwru(*arguments)` is a Trace; each has its own folder."""
    count = iter(range(1000))

    def start(*arguments: str) -> Trace:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        return Trace(folder, arguments)

    return start
