"""The traffic in a guest: a veth pair into a network namespace, and UDP packets that are sent through it."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from array import array
from collections.abc import Callable

US, PEER, PORT = "10.9.0.1", "10.9.0.2", 9999
MAC = "02:00:00:00:00:02"  # of PEER
BATCH = 64  # packets of a system call
TICK = 0.01  # seconds between the batches of paced traffic
TRIES = 2  # of a rate: the machine has hiccups of its own
BISECTIONS = 4


def make_network() -> None:
    """A veth pair from here, US, into the namespace `peer`, where a socket of PEER at PORT is full and drops all.

    So every packet takes the same way, however busy the machine is, and leaves the other CPU to the tracer. A receiver
    that reads makes some hits more or less (-5 to +2 %), depending on whether it waits, which would look like loss.
    """
    for line in (
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",  # nothing that nobody sent
        "ip netns add peer",
        f"ip link add v0 type veth peer name v1 address {MAC} netns peer",
        f"ip addr add {US}/24 dev v0",
        f"ip -n peer addr add {PEER}/24 dev v1",
        "ip link set v0 up",
        f"ip neigh add {PEER} lladdr {MAC} dev v0 nud permanent",  # looking it up makes hits, too
        "ip -n peer link set v1 up",
        f"ping -q -c 1 -W 5 {PEER}",
    ):
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)
    receiver = f"ip netns exec peer socat -u UDP-RECV:{PORT},rcvbuf=1 OPEN:/dev/null"
    process = subprocess.Popen(receiver.split(), stdin=subprocess.DEVNULL)
    while not subprocess.check_output(["ip", "netns", "exec", "peer", "ss", "-Hlnu", f"sport = {PORT}"]):
        time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    Sender().send(BATCH)


class Sender:
    """Sends packets of 64 bytes with sendmmsg(2), which leaves nearly all of the time to the kernel."""

    def __init__(self) -> None:
        self.sent = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((PEER, PORT))
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._payload = array("B", b"pwru" * 16)
        self._iovec = array("Q", self._payload.buffer_info())
        # struct mmsghdr: no address, one iovec, no control message, no flags, the length that was sent.
        self._messages = array("Q", [0, 0, self._iovec.buffer_info()[0], 1, 0, 0, 0, 0] * BATCH)

    def send(self, packets: int) -> None:
        """As fast as it goes."""
        end = self.sent + packets
        while self.sent < end:
            messages = ctypes.c_void_p(self._messages.buffer_info()[0])
            sent = self._send(self._socket.fileno(), messages, min(BATCH, end - self.sent), 0)
            if sent < 0:
                raise OSError(number := ctypes.get_errno(), os.strerror(number))
            self.sent += sent

    def flood(self, seconds: float) -> float:
        """As fast as it goes; packets per second."""
        before, began = self.sent, time.monotonic()
        while time.monotonic() < began + seconds:
            self.send(BATCH)
        return (self.sent - before) / (time.monotonic() - began)

    def paced(self, rate: float, seconds: float) -> bool:
        """At this rate; whether it could be kept up with."""
        before, began = self.sent, time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self.send(int(passed * rate) - (self.sent - before))
            time.sleep(TICK)
        return self.sent - before > 0.95 * rate * seconds


def highest(holds: Callable[[float], bool], start: float) -> float:
    """The highest rate that was seen to hold: doubled from `start` until it does not, then bisected."""

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
