"""Records as the BPF programs write them, for tests of what decodes and prints them."""

from __future__ import annotations

import ipaddress
import struct
from functools import cache
from pathlib import Path

import pytest

from pwru import event
from pwru.kernel.btf import Btf

OBJECT = Path(event.__file__).with_name("pwru.bpf.o")


@cache
def decoder() -> event.Decoder:
    """The decoder for the object that was built, its BTF read without libbpf."""
    if not OBJECT.exists():
        pytest.fail("the BPF object is not built: make build")
    return event.Decoder(Btf.from_file(str(OBJECT)))


def process(pid: int = 214, comm: bytes = b"ping") -> bytes:
    return struct.pack("=I16s", pid, comm)


def packet(
    *,
    netns: int = 4026531840,
    mark: int = 0,
    ifindex: int = 2,
    ifname: bytes = b"v0",
    mtu: int = 1500,
    length: int = 84,
    protocol: int = 0x0800,
    source: str = "10.9.0.1",
    destination: str = "10.9.0.2",
    ports: tuple[int, int] | None = None,
    l4: int = 1,
) -> bytes:
    """struct packet by hand, in the order of bpf/pwru.h; no `source`: no IP header."""
    saddr, daddr = (ipaddress.ip_address(a).packed if a else b"" for a in (source, destination))
    return struct.pack(
        "=IIIIIHHHBBB16s16s16s3x",
        netns, mark, ifindex, mtu, length, protocol, *(ports or (0, 0)),
        {0: 0, 4: 4, 16: 6}[len(saddr)], l4, ports is not None, ifname, saddr, daddr,
    )  # fmt: skip


def record(
    *,
    skb: int = 0xFFFF8F3C8192F000,
    addr: int = 0xFFFFFFFF81000000,
    location: int = 0,
    cpu: int = 1,
    reason: int = 0,
    process_run: bytes = process(),
    packet_run: bytes = packet(),
    busy: bool = False,
) -> bytes:
    body = struct.pack("=QQQII", skb, addr, location, cpu, reason) + process_run + packet_run
    body += bytes(-len(body) % 8)
    return struct.pack("=II", len(body) | busy << 31, 0) + body
