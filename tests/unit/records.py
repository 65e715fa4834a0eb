"""Records as the BPF programs write them, for tests of what decodes and prints them."""

from __future__ import annotations

import ipaddress
import struct
from functools import cache
from pathlib import Path

import pytest

from pwru.kernel.btf import Btf, read_btf
from pwru.record import event

OBJECT = Path(event.__file__).parents[1] / "pwru.bpf.o"


@cache
def decoder(parts: event.Parts = event.Parts()) -> event.Decoder:  # noqa: B008  (a constant)
    """The decoder for the object that was built, its BTF read without libbpf."""
    if not OBJECT.exists():
        pytest.fail("the BPF object is not built: make build")
    return event.Decoder(_btf(), parts)


@cache
def _btf() -> Btf:
    return read_btf(OBJECT)


def task(pid: int = 214, comm: bytes = b"ping", cpu: int = 1) -> bytes:
    return struct.pack("=II16s", cpu, pid, comm)


def where(addr: int = 0xFFFFFFFF81000000, reason: int = 0, location: int | None = None) -> bytes:
    return struct.pack("=QI4x", addr, reason) + (b"" if location is None else struct.pack("=Q", location))


def meta(
    *,
    netns: int = 4026531840,
    mark: int = 0,
    ifindex: int = 2,
    ifname: bytes = b"v0",
    mtu: int = 1500,
    length: int = 84,
    protocol: int = 0x0800,
) -> bytes:
    return struct.pack("=IIIIIH2x16s", netns, mark, ifindex, mtu, length, protocol, ifname)


def addresses(
    source: str = "10.9.0.1",
    destination: str = "10.9.0.2",
    ports: tuple[int, int] | None = None,
    l4: int = 1,
    flags: int = 0,
) -> bytes:
    """struct tuple by hand; no `source`: no IP header."""
    saddr, daddr = (ipaddress.ip_address(a).packed if a else b"" for a in (source, destination))
    version = {0: 0, 4: 4, 16: 6}[len(saddr)]
    return struct.pack("=16s16sHHBBBB", saddr, daddr, *(ports or (0, 0)), version, l4, ports is not None, flags)


def cb(*words: int) -> bytes:
    return struct.pack("=5I4x", *words)


def ns(time: int) -> bytes:
    return struct.pack("=Q", time)


NO_IP = addresses(source="", destination="", l4=0)


def record(
    *,
    skb: int = 0xFFFF8F3C8192F000,
    task_run: bytes = task(),
    where_run: bytes = where(),
    packet_run: bytes = meta() + addresses(),
    rest: bytes = b"",
    busy: bool = False,
) -> bytes:
    body = struct.pack("=Q", skb) + task_run + where_run + packet_run + rest
    return struct.pack("=II", len(body) | busy << 31, 0) + body
