"""Events of packets that are followed, and what they are in: for whatever looks at the ways of packets."""

from __future__ import annotations

from pwru.record.living import Living
from pwru.record.names import Function, Hit
from pwru.record.packets import Packets, Way
from pwru.record.schema import Record
from tests.support.records import cut, follow, hit, meta, record, schema, task, u64
from tests.support.source import FakeNames

SCHEMA = schema("follow", "time", parts=("meta",))
MS = 1_000_000
NAMES_BY_NUMBER = {
    0xA: "ip_output",
    0xB: "ip_rcv",
    0xC: "tcp_v4_rcv",
    0xD: "kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)",
    0xE: "skb_release_head_state",
    0x1: "tracepoint:net_dev_queue",
}
OUT, RCV, TCP, DROP, END = (hit(number) for number in (0xA, 0xB, 0xC, 0xD, 0xE))


def function(hit: Hit) -> Function:
    return Function(NAMES_BY_NUMBER[hit.addr], "", drops=hit.addr == 0xD)


NAMES = FakeNames(function, ends={0xE})
UNKNOWN = Living(SCHEMA, NAMES, lambda _skb, _instance: None)
Event = tuple[float, bytes, bytes]  # a time in ms, where, and struct follow


def events(*events: Event, pid: int = 214, mark: int = 0) -> list[Record]:
    return cut(
        SCHEMA,
        *(
            record(hit=at, task=task(pid), packet=meta(mark=mark), rest=told + u64(int(time * MS)))
            for time, at, told in events
        ),
    )


def good(number: int, start: float = 1, length: float = 3) -> list[Event]:
    """A packet that is received."""
    told, end = follow(number << 50), follow(number << 50, ended=True)
    return [(start, OUT, told), (start + 1, RCV, told), (start + length, TCP, told), (start + length, END, end)]


def dropped(number: int, start: float = 1) -> list[Event]:
    told, end = follow(number << 50), follow(number << 50, ended=True)
    return [(start, OUT, told), (start + 1, RCV, told), (start + 2, DROP, told), (start + 2, END, end)]


def resting(number: int, start: float = 1) -> list[Event]:
    """One that does not end."""
    return [(start, OUT, follow(number << 50)), (start + 1, RCV, follow(number << 50))]


def in_order(*packets: list[Event], mark: int = 0) -> list[Record]:
    return events(*sorted((event for packet in packets for event in packet), key=lambda event: event[0]), mark=mark)


def ways(*packets: list[Event], mark: int = 0) -> list[Way]:
    """What becomes of these packets, in the order in which they end; who rests comes last."""
    grouped = Packets(SCHEMA, NAMES)
    return grouped.add(in_order(*packets, mark=mark)) + grouped.drain()
