"""--filter-trace-tc: programs of other kinds than test_bpf_programs.py has, where they decide or send elsewhere."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwru.kernel import netns
from pwru.libbpf import syscalls
from vmtest.network import Network, sh

from .bpf_programs import Tc, pinned, programs, put_first
from .following import ended, follow, func, instances, packets
from .topology import connection, received
from .tracing import Start, Trace

_BPF_MAP_UPDATE_ELEM = 2  # enum bpf_cmd
PORT = 9001


def verdicts(trace: Trace) -> list[tuple[str, str | None]]:
    assert trace.stop() == 0
    return [(event["func"], event.get("verdict")) for event in trace.objects() if "(" in event["func"]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with programs("redirects") as folder:
        yield folder


@pytest.mark.three_kernels
def test_following_a_redirect(network: Network, pwru: Start, folder: Path) -> None:
    """A program of tc sends the packet out of another device (bpf_redirect())."""
    network.ip(network.client, "link", "add", "d0", "type", "dummy")
    try:
        network.ip(network.client, "link", "set", "d0", "up")
        put_first(folder / "maps/target", netns.ifindex("d0", f"/run/netns/{network.client}"))
        few = "--filter-trace-tc", "--filter-func", "__ip_local_out|dev_hard_start_xmit"
        with Tc(network) as tc:
            tc.put(folder / "sends_elsewhere")
            with follow(pwru, *few, f"icmp and dst host {network.destination}") as trace:
                network.run(network.client, "ping", "-n", "-c1", "-W1", network.destination, check=False)
                events = ended(trace)
    finally:
        network.ip(network.client, "link", "delete", "d0")
    assert (packets(events), instances(events)) == ([1], [0])
    assert [func(event) for event in events] == ["__ip_local_out", *["sends_elsewhere"] * 2, "dev_hard_start_xmit"]
    assert events[2]["verdict"] == "TC_ACT_REDIRECT"
    assert events[3]["iface"].startswith("d0:")


@contextmanager
def route(network: Network, to: str, *encap: str) -> Iterator[None]:
    """A route of the client with these programs."""
    words = to, "encap", "bpf", *encap, "via", network.destination, "dev", network.client_device
    network.ip(network.client, "route", "add", *words)
    try:
        yield
    finally:
        network.ip(network.client, "route", "delete", to)


@pytest.mark.two_kernels
def test_route(network: Network, pwru: Start, folder: Path) -> None:
    out, xmit = "lets_go_out", "drops_on_the_route"
    with (
        route(network, "10.77.0.0/24", "out", "pinned", str(folder / out), "xmit", "pinned", str(folder / xmit)),
        pwru("--filter-trace-tc", "--filter-func", "__ip_local_out", "--output-json", "icmp") as trace,
    ):
        network.run(network.client, "ping", "-n", "-c1", "-W1", "10.77.0.1", check=False)
        assert verdicts(trace) == [
            (f"{out}(lwt_out)", None),
            (f"{out}(lwt_out)", "BPF_OK"),
            (f"{xmit}(lwt_xmit)", None),
            (f"{xmit}(lwt_xmit)", "BPF_DROP"),
        ]


@pytest.mark.two_kernels
def test_socket(network: Network, pwru: Start, folder: Path) -> None:
    """What the server's socket receives is seen by the program of the map that it is in."""
    name, sockets = "passes_to_the_socket", folder / "maps/sockets"
    sh("bpftool", "prog", "attach", "pinned", str(folder / name), "stream_verdict", "pinned", str(sockets))
    with connection(f"{network.client}->{network.server}", network.destination, PORT) as (client, server):
        key, value = bytes(4), struct.pack("=Q", server.fileno())
        update_map(sockets, key, value)
        few = "--filter-trace-tc", "--filter-func", "tcp_v4_rcv", "--output-json"
        with pwru(*few, f"tcp dst port {PORT}") as trace:
            client.sendall(b"hello")
            received(server, 5)
            assert verdicts(trace)[:2] == [(f"{name}(sk_skb)", None), (f"{name}(sk_skb)", "SK_PASS")]


def update_map(path: Path, key: bytes, value: bytes) -> None:
    fd = pinned(path)
    key_at, value_at = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    addresses = ctypes.addressof(key_at), ctypes.addressof(value_at)
    syscalls.bpf(_BPF_MAP_UPDATE_ELEM, struct.pack("=I4xQQQ", fd, *addresses, 0))
    os.close(fd)
