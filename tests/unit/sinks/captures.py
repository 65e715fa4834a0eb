"""What a pcapng sink makes of events, and the bytes of packets."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pwru.record.about import About
from pwru.record.names import Function, Hit
from pwru.sinks.pcapng import Pcapng
from pwru.sinks.rotate import Backups, File
from tests.support import records
from tests.support.pcapng import Capture, read
from tests.support.records import cut, hit, meta, schema, u64
from tests.support.source import FakeNames, FakeSource

ROOM = 64
FOLLOWED = schema("follow", "time", parts=("meta",), payload=ROOM)
PLAIN = schema("time", parts=("meta",), payload=ROOM)
SKB = 0xFFFF888000001000
BOOT = 1_700_000_000_000_000_000  # when the clock of events began
NETNS = 4026531840
FUNCTIONS = {
    0xA: "ip_output",
    0xB: "ip_rcv",
    0xC: "dev_hard_start_xmit",
    0xD: "kfree_skb_reason",
    0xE: "skb_release_head_state",
    0xF: "skb_release_data",
}
CALLERS = {7: "udp_rcv"}
OUTPUT, RCV, XMIT, DROP, END, AFTER = (hit(addr, 2 if addr == 0xD else 0) for addr in FUNCTIONS)


def function(hit: Hit) -> Function:
    reason = "(NO_SOCKET)" if hit.reason else ""
    return Function(FUNCTIONS[hit.addr] + reason, CALLERS.get(hit.location, ""), bool(hit.reason))


class Names(FakeNames):
    def clock_offset(self) -> int:
        return BOOT


NAMES = Names(function, ends={0xE}, after_ends={0xF}, netns=lambda: {NETNS: "blue\n"})


def ipv4(data: bytes = b"", protocol: int = 1, length: int | None = None, fragment: int = 0) -> bytes:
    total = 20 + len(data) if length is None else length
    return struct.pack("!BBHHHBBHII", 0x45, 0, total, 1, fragment, 64, protocol, 0, 0x0A090001, 0x0A090002) + data


def ipv6(data: bytes = b"", protocol: int = 58, length: int | None = None) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(data) if length is None else length, protocol, 64) + bytes(32) + data


def udp(length: int) -> bytes:
    return struct.pack("!HHHH", 7777, 9999, length, 0)


ABOUT = About("0.0", ("6.12.0", "#1", "x86_64"), "none", ("icmp", "a b\n"))
PING = ipv4(bytes(8))
FRAME = bytes(12) + b"\x08\0" + PING


def payload(data: bytes, *, length: int | None = None, has_mac: bool = False) -> bytes:
    held = data[:ROOM]
    return struct.pack("=IIII", len(data) if length is None else length, len(held), has_mac, 0) + held.ljust(ROOM)


def event(
    at: bytes,
    time: int,
    told: bytes = b"",
    *,
    skb: int = SKB,
    data: bytes = PING,
    has_mac: bool = False,
    packet: bytes = meta(),
    **more: Any,
) -> bytes:
    rest = told + u64(time) + payload(data, has_mac=has_mac)
    return records.record(skb=skb, hit=at, packet=packet, rest=rest, **more)


def source(followed: bool = True) -> FakeSource:
    return FakeSource(FOLLOWED if followed else PLAIN, NAMES, ABOUT)


def begun(path: Path, followed: bool = True, **more: Any) -> Pcapng:
    sink = Pcapng(File(str(path), 1 << 30, Backups(str(path)), whole=True), **more)
    sink.open()
    sink.begin(source(followed))
    return sink


def capture(path: Path, *batches: Sequence[bytes], followed: bool = True, **more: Any) -> Capture:
    """Return what is in the file after these events."""
    with closing(begun(path, followed, **more)) as sink:
        for batch in batches:
            assert sink.write(cut(FOLLOWED if followed else PLAIN, *batch)) == 0
        sink.flush()
    assert os.stat(path).st_mode & 0o777 == 0o600
    return read(path.read_bytes())
