"""The traffic in a guest: UDP packets that are sent through a veth pair into a network namespace."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmtest.network import Network, sh

NETWORK = Network(client="", server="peer", source6="", destination6="")
PEER, PORT = NETWORK.destination, 9999
BATCH = 64  # packets per system call
TICK = 0.01  # seconds between batches of paced traffic
TRIES = 2  # per rate: the machine has hiccups of its own
BISECTIONS = 4


@contextmanager
def network() -> Iterator[None]:
    """A veth pair from here into the namespace `peer`, where a socket of PEER at PORT is full and drops everything.

    So every packet takes the same path, however busy the machine is, and leaves the other CPU to the tracer. A receiver
    that reads changes the number of hits (-5 to +2 %), depending on whether it waits, which would look like loss.
    """
    sh("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")  # no packets that nobody sent
    with NETWORK:
        # Looking up a neighbour makes hits, too.
        NETWORK.ip("", "neighbour", "change", PEER, "dev", NETWORK.client_device, "nud", "permanent")
        receiver = f"ip netns exec peer socat -u UDP-RECV:{PORT},rcvbuf=1 OPEN:/dev/null"
        with subprocess.Popen(receiver.split(), stdin=subprocess.DEVNULL) as process:
            while not NETWORK.run("peer", "ss", "-Hlnu", f"sport = {PORT}").stdout:
                time.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            Sender().send(BATCH)
            try:
                yield
            finally:
                process.kill()


class Sender:
    """Sends packets of 64 bytes with sendmmsg(2), which leaves nearly all CPU time to the kernel."""

    def __init__(self) -> None:
        self.sent = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((PEER, PORT))
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._payload = array("B", b"pwru" * 16)
        self._iovec = array("Q", self._payload.buffer_info())
        # struct mmsghdr: no address, one iovec, no control message, no flags, the length that was sent
        self._messages = array("Q", [0, 0, self._iovec.buffer_info()[0], 1, 0, 0, 0, 0] * BATCH)

    def send(self, packets: int) -> None:
        """Send packets as fast as possible."""
        end = self.sent + packets
        while self.sent < end:
            messages = ctypes.c_void_p(self._messages.buffer_info()[0])
            sent = self._send(self._socket.fileno(), messages, min(BATCH, end - self.sent), 0)
            if sent < 0:
                raise OSError(number := ctypes.get_errno(), os.strerror(number))
            self.sent += sent

    def flood(self, seconds: float) -> float:
        """Send as fast as possible. Return packets per second."""
        before, began = self.sent, time.monotonic()
        while time.monotonic() < began + seconds:
            self.send(BATCH)
        return (self.sent - before) / (time.monotonic() - began)

    def paced(self, rate: float, seconds: float) -> bool:
        """Send at this rate. Return True if the sender kept up with it."""
        before, began = self.sent, time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self.send(int(passed * rate) - (self.sent - before))
            time.sleep(TICK)
        return self.sent - before > 0.95 * rate * seconds


def highest(holds: Callable[[float], bool], start: float) -> float:
    """Return the highest rate that held: doubled from `start` until one fails, then bisected."""

    def tried(rate: float) -> bool:
        return any(holds(rate) for _ in range(TRIES))

    low, high = 0.0, start
    while tried(high):
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if tried(middle):
            low = middle
        else:
            high = middle
    return low
