"""Records as the BPF programs write them, for whatever decodes and prints them without a kernel."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pwru
from pwru.kernel.btf import read_btf
from pwru.record.layout import Wire
from pwru.record.parts import Field
from pwru.record.plan import Plan
from pwru.record.schema import Record, Schema

OBJECT = Path(pwru.__file__).with_name("pwru.bpf.o")
DEFAULT_PARTS = ("meta", "tuple")


@cache
def wire() -> Wire:
    """Return the layouts of the object that was built; its BTF is read without libbpf."""
    if not OBJECT.exists():
        raise FileNotFoundError("the BPF object is not built: make build")
    return Wire(read_btf(OBJECT))


@cache
def schema(
    *more: str,
    parts: tuple[str, ...] = DEFAULT_PARTS,
    tcp_flags: bool = False,
    fields: tuple[Field, ...] = (),
    **sizes: int,
) -> Schema:
    """Return the schema of records with these parts, `more` of them, and those of `sizes`, which are in bytes."""
    sizes |= dict.fromkeys((*parts, *more), 0)
    if fields:
        sizes["values"] = 8 * len(fields)
    return Plan(wire(), sizes, tcp_flags=tcp_flags, fields=fields).schema


def task(pid: int = 214, comm: bytes = b"ping", cpu: int = 1) -> bytes:
    return wire().layout("task").pack({"cpu": cpu, "pid": pid, "comm": comm})


def hit(addr: int = 0xFFFFFFFF81000000, reason: int = 0, location: int | None = None) -> bytes:
    """Return struct site, and the part `location` if there is one."""
    site = wire().layout("site").pack({"addr": addr, "reason": reason})
    return site + (b"" if location is None else u64(location))


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
    return (
        wire()
        .layout("meta")
        .pack(
            {
                "netns": netns,
                "mark": mark,
                "ifindex": ifindex,
                "ifname": ifname,
                "mtu": mtu,
                "len": length,
                "protocol": protocol,
            }
        )
    )


def addresses(
    source: str = "10.9.0.1",
    destination: str = "10.9.0.2",
    ports: tuple[int, int] | None = None,
    l4: int = 1,
    flags: int = 0,
    *,
    from_sock: bool = False,
) -> bytes:
    """Return struct tuple; without `source` there is no IP header."""
    saddr, daddr = (ipaddress.ip_address(a).packed if a else b"" for a in (source, destination))
    sport, dport = ports or (0, 0)
    members: dict[str, int | bytes | Sequence[int]] = {
        "saddr": saddr,
        "daddr": daddr,
        "sport": sport,
        "dport": dport,
        "ip_version": {0: 0, 4: 4, 16: 6}[len(saddr)] * (-1 if from_sock else 1),
        "l4_protocol": l4,
        "has_ports": ports is not None,
        "tcp_flags": flags,
    }
    return wire().layout("tuple").pack(members)


def cb(*words: int) -> bytes:
    return wire().layout("cb").pack({"words": words})


def follow(
    packet: int = 0,
    instance: int | None = None,
    *,
    parent: tuple[int, int] = (0, 0),
    transmission: int = 0,
    segment: int = 0,
    tracked_by: str = "SKB",
    relation: str = "NONE",
    ended: bool = False,
) -> bytes:
    """Return struct follow; `parent` is a packet and an instance. Without `instance` it is the packet's first skb."""
    members: dict[str, int | bytes | Sequence[int]] = {
        "packet": packet,
        "instance": packet if instance is None else instance,
        "parent_packet": parent[0],
        "parent": parent[1],
        "transmission": transmission,
        "segment": segment,
        "tracked_by": wire().constant(f"TRACKED_BY_{tracked_by}"),
        "relation": wire().constant(f"RELATION_{relation}"),
        "ended": ended,
    }
    return wire().layout("follow").pack(members)


def u64(*values: int) -> bytes:
    """Return the parts `location`, `time` and `values`: numbers of 64 bits."""
    return struct.pack(f"={len(values)}Q", *(value % 2**64 for value in values))


NO_IP = addresses(source="", destination="", l4=0)


def record(
    *,
    skb: int = 0xFFFF8F3C8192F000,
    task: bytes = task(),
    hit: bytes = hit(),
    packet: bytes = meta() + addresses(),
    rest: bytes = b"",
) -> bytes:
    """Return a record: `rest` are the parts after those of the packet."""
    site_size = wire().layout("site").size
    event = wire().layout("event").pack({"skb": skb, "task": task, "site": hit[:site_size]})
    return event + hit[site_size:] + packet + rest


def in_ring(record: bytes, *, busy: bool = False) -> bytes:
    """Return a record as it lies in a ring buffer; `busy`: the kernel is still writing it."""
    return struct.pack("=II", len(record) | busy << 31, 0) + record


def cut(schema: Schema, *records: bytes) -> list[Record]:
    """Return records, or several in a row, cut up."""
    return [Record._make(fields) for fields in struct.iter_unpack(f"={schema.format}", b"".join(records))]
