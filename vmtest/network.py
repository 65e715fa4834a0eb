"""Two network namespaces joined by a veth pair: what the kernel tests, benchmarks, comparison and demo send through.

Needs root, iproute2 and ping, and nothing but Python's standard library: guests run it from the checkout in /pwru.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self

from vmtest.errors import VmtestError

CLONE_NEWNET = 0x40000000
CompletedProcess = subprocess.CompletedProcess[str]


@dataclass
class Network:
    """`with Network() as network:` makes the namespaces and devices, and takes them away again whatever happens.

    An empty `client` is the namespace of the caller; without IPv6 addresses, only IPv4 is set up.
    """

    client: str = "client"
    server: str = "server"
    client_device: str = "v0"
    server_device: str = "v1"
    source: str = "10.9.0.1"
    destination: str = "10.9.0.2"
    source6: str = "fd09::1"
    destination6: str = "fd09::2"
    _made: ExitStack = field(default_factory=ExitStack, init=False, repr=False, compare=False)

    def __enter__(self) -> Self:
        with ExitStack() as made:
            for netns in filter(None, (self.client, self.server)):
                sh("ip", "netns", "add", netns)
                made.callback(sh, "ip", "netns", "delete", netns)
            self._join()
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def run(self, netns: str, *command: str, check: bool = True, text: str | None = None) -> CompletedProcess:
        """Run a command in a namespace, with `text` as its input."""
        return sh(*(("ip", "netns", "exec", netns) if netns else ()), *command, check=check, text=text)

    def ping(self, *options: str, to: str | None = None) -> None:
        self.run(self.client, "ping", "-n", "-c1", "-W5", *options, to or self.destination)

    def python(self, netns: str, code: str) -> None:
        self.run(netns, sys.executable, "-c", code)

    def ip(self, netns: str, *arguments: str) -> None:
        """Run ip(8) on the devices of a namespace."""
        sh("ip", *(("-n", netns) if netns else ()), *arguments)

    def _join(self) -> None:
        peer = ("type", "veth", "peer", "name", self.server_device, "netns", self.server)
        self.ip(self.client, "link", "add", self.client_device, *peer)
        for netns, device, address, address6 in (
            (self.client, self.client_device, self.source, self.source6),
            (self.server, self.server_device, self.destination, self.destination6),
        ):
            self.ip(netns, "address", "add", f"{address}/24", "dev", device)
            if address6:
                self.ip(netns, "address", "add", f"{address6}/64", "dev", device, "nodad")
            self.ip(netns, "link", "set", device, "up")
            self.ip(netns, "link", "set", "lo", "up")
        # Neighbours and routes settle before any trace looks.
        self.ping("-w30")
        if self.destination6:
            self.ping("-6", "-w30", to=self.destination6)


def sh(*command: str, check: bool = True, text: str | None = None) -> CompletedProcess:
    """Run a command with `text` as its input. Raises VmtestError with all of its output if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    if check and done.returncode:
        raise VmtestError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


def enter(netns: str) -> None:
    """Move this thread into a network namespace (os.setns() exists since Python 3.12); "" is the one that it is in."""
    if not netns:
        return
    with open(f"/run/netns/{netns}") as file:
        _setns(file.fileno(), netns)


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """Keep this thread in a network namespace; sockets and files that are opened meanwhile stay there."""
    with open("/proc/thread-self/ns/net") as home:
        enter(netns)
        try:
            yield
        finally:
            _setns(home.fileno(), "the namespace before")


def _setns(fd: int, netns: str) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
        raise OSError(number := ctypes.get_errno(), f"setns: {os.strerror(number)}", netns)
