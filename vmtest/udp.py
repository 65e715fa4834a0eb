"""UDP that is waited for: datagrams to a port where nobody listens, counted by the kernel that receives them.

A receiver that is slowed down by a tracer queues net.core.netdev_max_backlog (1000) packets and drops the rest. So no
more than MOST_IN_FLIGHT are ever on their way, and when `send` returns, all of them have arrived.
"""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from vmtest.errors import VmtestError
from vmtest.network import Network, inside

PORT, SOURCE_PORT = 9999, 7777
MOST_IN_FLIGHT = 500
PATIENCE = 120.0
CHECKOUT = Path(__file__).resolve().parent.parent


class Udp:
    """A sender in a network's client namespace, by IPv4; a context manager."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._to = (network.destination, PORT)
        with inside(network.server):
            self._snmp = open("/proc/thread-self/net/snmp")  # noqa: SIM115
        self._socket = self._bound(SOURCE_PORT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._snmp.close()
        self._socket.close()

    def send(self, count: int, size: int = 64) -> None:
        """Send datagrams one after the other, and wait until all have arrived."""
        before = self._received()
        for number in range(count):
            if number % MOST_IN_FLIGHT == 0:
                self._wait_until_received(before + number)
            self._socket.sendto(bytes(size), self._to)
        self._wait_until_received(before + count)

    def flood(self, senders: int, count: int) -> None:
        """Send `count` from each of the ports 7001, 7002 …, all at once, every other one on the other CPU."""
        some = MOST_IN_FLIGHT // senders
        with ExitStack() as stack:
            sockets = [stack.enter_context(self._bound(7001 + number)) for number in range(senders)]
            pool = stack.enter_context(ThreadPoolExecutor(senders))

            def send(number: int) -> None:
                os.sched_setaffinity(0, {number % 2})
                for _ in range(some):
                    sockets[number].sendto(bytes(64), self._to)

            for _ in range(count // some):
                before = self._received()
                list(pool.map(send, range(senders)))
                self._wait_until_received(before + senders * some)

    def _bound(self, port: int) -> socket.socket:
        with inside(self._network.client):
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("", port))
        return bound

    def _received(self) -> int:
        self._snmp.seek(0)
        names, values = (line.split() for line in self._snmp if line.startswith("Udp: "))
        return int(values[names.index("NoPorts")])

    def _wait_until_received(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._received() < count:
            if time.monotonic() > deadline:
                raise VmtestError(f"{count - self._received()} datagrams did not arrive in {PATIENCE:.0f} s")
            time.sleep(0.001)


def send_udp(network: Network, count: int, size: int = 64) -> None:
    """Send with `Udp` in a process of its own, named python3, which does not trace or test."""
    code = "import sys; sys.path.insert(0, {!r}); from vmtest.network import Network; from vmtest.udp import Udp; "
    network.python(network.client, f"{code.format(str(CHECKOUT))}Udp({network!r}).send({count}, {size})")
