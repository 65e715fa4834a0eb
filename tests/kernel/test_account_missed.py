"""Hits for which the kernel does not run the program: the account includes them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from vmtest.network import Network, inside

from .accounting import Programs
from .backends import KERNEL, each_function_backend
from .leftovers import PATIENCE
from .tracing import Start

pytestmark = pytest.mark.two_kernels

# Passed by a packet that a process sends, and by the reply to one that was received.
BOTH_WAYS = "__ip_local_out|ip_output|skb_release_data|kfree_skbmem|consume_skb"
BPF_MAP_CREATE, BPF_MAP_LOOKUP_BATCH = 0, 24
BPF_MAP_TYPE_HASH = 1
NR_BPF = {"x86_64": 321, "aarch64": 280}


def bpf(command: int, attr: bytes) -> int:
    return int(ctypes.CDLL(None).syscall(NR_BPF[os.uname().machine], command, attr, len(attr)))


@contextlib.contextmanager
def receives_on_cpu_1(network: Network) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Yield a function that does some work on CPU 1 while pings from CPU 0 interrupt it there."""
    steering = "/sys/class/net/v1/queues/rx-0/rps_cpus"
    with inside(network.client):
        pings = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    request = bytes((8, 0, 0xF7, 0xFD, 0, 1, 0, 1))

    def ping(end: Event) -> None:
        os.sched_setaffinity(0, {0})
        while not end.wait(0.001):
            with contextlib.suppress(OSError):  # too many are in flight
                pings.sendto(request, (network.destination, 0))

    def interrupt(work: Callable[[], object]) -> None:
        def on_cpu_1() -> None:
            os.sched_setaffinity(0, {1})
            work()

        end = Event()
        with ThreadPoolExecutor(2) as pool:
            pinging = pool.submit(ping, end)
            pool.submit(on_cpu_1).result()
            end.set()
            pinging.result()

    network.run(network.server, "sh", "-c", f"echo 2 >{steering}")
    with pings:
        yield interrupt
    network.run(network.server, "sh", "-c", f"echo 0 >{steering}")


def send_to_myself(network: Network) -> None:
    with inside(network.client):
        s, sink = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with s, sink:
        sink.bind(("127.0.0.1", 0))
        for _ in range(1000):
            s.sendto(b"", sink.getsockname())


def look_into_an_empty_map() -> None:
    """Look up all buckets in one system call; meanwhile the kernel runs no kprobe program on this CPU.

    Since v5.6: commit 057996380a42 ("bpf: Add batch ops to all htab bpf map").
    """
    fd = bpf(BPF_MAP_CREATE, struct.pack("=IIIII40x", BPF_MAP_TYPE_HASH, 4, 4, 1 << 20, 1))  # BPF_F_NO_PREALLOC
    key, many = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4096)
    into = ctypes.addressof(many)
    for _ in range(20):
        bpf(BPF_MAP_LOOKUP_BATCH, struct.pack("=QQQQIIQQ", 0, ctypes.addressof(key), into, into, 100, fd, 0, 0))
    os.close(fd)


@each_function_backend
def test_what_the_kernel_does_not_run_is_told(backend: str, network: Network, pwru: Start) -> None:
    """The kernel counts it per program, per link or per kprobe."""
    if KERNEL and (KERNEL.name == "5.10" or (KERNEL.name, backend) == ("6.1", "kprobe")):
        pytest.skip("this kernel does not count it")
    # Programs of kprobes are interrupted too rarely for the second kind of work; the first one affects only them and
    # those of kprobe-multi.
    work = look_into_an_empty_map if backend == "kprobe" else lambda: send_to_myself(network)
    nothing = " or ".join(f"src host 10.77.77.{n}" for n in range(200))  # keeps the program running for a while
    programs = Programs()
    with (
        pwru("--strict", "--output-json", "--backend", backend, "--filter-func", BOTH_WAYS, nothing) as trace,
        receives_on_cpu_1(network) as interrupt,
    ):
        deadline = time.monotonic() + PATIENCE
        while not (missed := programs.missed()) and time.monotonic() < deadline:
            interrupt(work)
        assert missed
        assert trace.stop() == 3
    assert trace.account() == {
        "events": 0,
        "packets": 0,
        "packets_exact": False,
        "lost": {"ring_buffer_full": 0, "ring_buffer_busy": 0, "probe_missed": missed},
        "not_printed": 0,
    }
