"""Recordings without a kernel: what a sink writes of records that are made up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pwru.record.account import Account
from pwru.record.schema import Record, Schema
from pwru.sinks.record import Recorder
from pwru.sinks.stream import Stream
from tests.support import records
from tests.support.source import FakeNames, FakeSource

PARTS = ("location", "meta", "tuple", "follow", "time")
SCHEMA = records.schema(parts=PARTS, tcp_flags=True, payload=64)
PORTS = (80, 443)
ETHERNET = bytes(12) + b"\x08\x00"


def payload(port: int, *, vlan: int = 0) -> bytes:
    """Return a part `payload`: a TCP packet to this port, with the number of a VLAN that the kernel keeps apart."""
    ip = bytes.fromhex("4500002800004000400600000a0900010a090002")
    data = ETHERNET + ip + (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(16)
    layout = records.wire().layout("payload")
    tag = {"vlan_proto": 0x8100, "vlan_tci": vlan} if vlan else {}
    head = layout.pack(tag | {"length": len(data), "size": len(data), "has_mac": 1})
    return head + data.ljust(64, b"\0")


def events(packets: int = 4, each: int = 5) -> list[Record]:
    """Return the events of TCP packets, one after the other: to PORTS in turn, dropped at the end."""
    made = []
    for packet in range(1, packets + 1):
        port, namespace = PORTS[packet % len(PORTS)], 4026531840 + packet % 2
        for step in range(each):
            ends = step == each - 1
            raw = records.record(
                skb=0xFFFF888000000000 + packet % 7 * 256,
                task=records.task(100 + packet % 3, b"client%d" % (packet % 3)),
                hit=records.hit(0x1000 + step, 2 * ends, 0x5000 + step),
                packet=records.meta(netns=namespace, ifindex=step // 2, ifname=b"v%d" % (step // 2), mark=packet)
                + records.addresses(ports=(40000, port), l4=6, flags=2),
                rest=records.follow(packet, tracked_by="SKB" if step else "FILTER", ended=ends)
                + records.u64(10**12 + packet * 10**6 + step * 1000)
                + payload(port),
            )
            made += records.cut(SCHEMA, raw)
    return made


def write(
    path: Path | None,
    batches: Sequence[list[Record]],
    *,
    schema: Schema = SCHEMA,
    account: bool = True,
    shape: list[Any] | None = None,
) -> bytes:
    """Record these events, and return the file. `shape`: of the structs that are copied."""
    from pwru.record.names import Function, Hit
    from pwru.sinks.rotate import Backups, File

    def name(hit: Hit) -> Function:
        reason = "(SKB_DROP_REASON_NO_SOCKET)" if hit.reason else ""
        return Function(f"f{hit.addr:x}{reason}", f"c{hit.location:x}" if hit.location else "", bool(reason))

    names = FakeNames(name, ends={0x1004}, netns=lambda: {4026531841: "blue"}, shape=shape)
    target = path or Path(f"/tmp/recording-{os.getpid()}")
    stream: Stream = File(str(target), 1 << 40, Backups(str(target)), whole=True)
    sink = Recorder(stream, json=False, command=("tcp",))
    sink.open()
    sink.begin(FakeSource(schema, names))
    count = 0
    for batch in batches:
        sink.write(batch)
        sink.flush()
        count += len(batch)
    if account:
        sink.finish(Account(count, 0, 0, 0, 1 << 20, events=count, packets=sink.packets))
    sink.close()
    data = target.read_bytes()
    if path is None:
        target.unlink()
    return data
