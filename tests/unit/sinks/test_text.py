"""Lines of text: the columns of the Go tool, byte for byte."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pwru.record.event import Function, Parts, Tuple, Where
from pwru.sinks.lines import CACHE_LIMIT
from pwru.sinks.text import Text, cut, tuple_text
from tests.unit.records import NO_IP, addresses, decoder, meta, record, task, where


def symbolize(hit: Where) -> Function:
    addr, reason, location = hit
    return Function(f"f{addr:x}" + (f"(R{reason})" if reason else ""), "there+0x1" if location else "")


def lines(*data: bytes, text: Text | None = None, parts: Parts = Parts()) -> list[str]:  # noqa: B008  (a constant)
    text = text or Text(decoder(parts), symbolize)
    return text.events(decoder(parts).records(memoryview(b"".join(data)))).splitlines()


def test_header_and_row() -> None:
    assert Text(decoder(), symbolize).header() == (
        "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n"
    )
    assert lines(record(where_run=where(0xA))) == [
        "0xffff8f3c8192f000 1   ping:214         4026531840 0              v0:2       0x0800 1500  84    "
        "10.9.0.1:0->10.9.0.2:0(icmp) fa"
    ]


def test_reason_and_location() -> None:
    (line,) = lines(record(where_run=where(1, 2, 3)), parts=Parts(location=True))
    assert line.endswith("(icmp) f1(R2) there+0x1")
    assert lines(record(where_run=where(1, 2)), record(where_run=where(1, 3)))[1].endswith(" f1(R3)")


@pytest.mark.parametrize(
    ("parts", "header", "row"),
    [
        (Parts(meta=False), "SKB CPU PROCESS TUPLE FUNC", "10.9.0.1:0->10.9.0.2:0(icmp) fa"),
        (Parts(tuple=False), "SKB CPU PROCESS NETNS MARK/x IFACE PROTO MTU LEN FUNC", "84 fa"),
        (Parts(meta=False, tuple=False), "SKB CPU PROCESS FUNC", "ping:214 fa"),
    ],
)
def test_columns_that_are_not_wanted(parts: Parts, header: str, row: str) -> None:
    text = Text(decoder(parts), symbolize)
    assert text.header().split() == header.split()
    packet_run = meta() * parts.meta + addresses() * parts.tuple
    (line,) = lines(record(where_run=where(0xA), packet_run=packet_run), text=text, parts=parts)
    assert line.split()[-len(row.split()) :] == row.split()
    assert len(line.split()) == len(header.split())
    assert line.startswith("0xffff8f3c8192f000 1   ping:214 ")


def test_packets_are_counted() -> None:
    """An address that is used again counts again once its end was seen."""
    text = Text(decoder(), symbolize, last={0xE})
    here, end = where(0xA), where(0xE)
    runs = [(1, here), (2, here), (1, end), (2, here), (1, here), (1, end), (1, end), (2, here)]
    lines(*(record(skb=skb, where_run=run) for skb, run in runs), text=text)
    assert text.packets == 4
    lines(record(skb=2), record(skb=3), text=text)
    assert text.packets == 5


def test_names_of_functions_are_looked_up_anew_once_modules_have_come() -> None:
    names = iter(("before", "after"))
    text = Text(decoder(), lambda _: Function(next(names), ""))
    assert [lines(record(), text=text)[0].split()[-1] for _ in range(2)] == ["before"] * 2
    text.forget_functions()
    assert lines(record(), text=text)[0].endswith(" after")


def test_mark_is_hexadecimal() -> None:
    assert " ab       " in lines(record(packet_run=meta(mark=0xAB) + addresses()))[0]


def test_tuple_column_grows_and_stays() -> None:
    text = Text(decoder(), symbolize)
    short = record(packet_run=meta(protocol=0x0806) + NO_IP)
    assert lines(short, text=text)[0].endswith("84          f" + "ffffffff81000000")
    (wide,) = lines(record(), text=text)
    (after,) = lines(short, text=text)
    assert len(after) == len(wide)


def test_long_names_are_cut_at_the_front() -> None:
    assert cut("ping:214") == "ping:214"
    assert cut("sixteen-char:123") == "sixteen-char:123"
    assert cut("seventeen-char:12") == "~venteen-char:12"
    (line,) = lines(record(task_run=task(4194304, b"kworker/u16:3-ev")))
    assert line.split()[2] == "~16:3-ev:4194304"


def test_interface_without_name() -> None:
    (line,) = lines(record(packet_run=meta(ifindex=0, ifname=b"") + addresses()))
    assert line.split()[5] == "0"


@pytest.mark.parametrize(
    ("t", "printed"),
    [
        (None, ""),
        (Tuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 6), "1.2.3.4:1->5.6.7.8:2(tcp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 17), "1.2.3.4:1->5.6.7.8:2(udp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 17), "1.2.3.4->5.6.7.8(udp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 1), "1.2.3.4:0->5.6.7.8:0(icmp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 47), "1.2.3.4->5.6.7.8(gre)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 200), "1.2.3.4->5.6.7.8(200)"),
        (Tuple(6, "::1", "fe80::2", 443, 5, 6), "[::1]:443->[fe80::2]:5(tcp)"),
        (Tuple(6, "::1", "fe80::2", None, None, 58), "[::1]:0->[fe80::2]:0(icmp6)"),
    ],
)
def test_tuples(t: Tuple | None, printed: str) -> None:
    assert tuple_text(t) == printed


def test_caches_are_bounded() -> None:
    text = Text(decoder(), symbolize)
    for start in range(0, CACHE_LIMIT + 100, 1000):
        numbers = range(start, start + 1000)
        batch = [record(skb=n, task_run=task(n), packet_run=meta(mark=n) + addresses()) for n in numbers]
        assert len(lines(*batch, text=text)) == 1000
    for cache in (text._skbs, text._tasks, text._packets):
        assert 0 < len(cache) <= CACHE_LIMIT
    assert text.packets == start + 1000


_A_MILLION = """
import struct
from pathlib import Path
from pwru.record.event import Function
from pwru.sinks.text import Text
from tests.unit.records import addresses, decoder, meta, record, task, where

LAST = where(0xE)[:8]
BATCH = 1000
one = record(where_run=where(0xE))
batch = bytearray(one * BATCH)
text = Text(decoder(), lambda hit: Function(f"f{hit.addr:x}", ""), last={0xE})

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

before = 0
for start in range(0, 1_000_000, BATCH):
    if start == 100_000:
        before = peak()
    for number in range(BATCH):
        # In each part: the skb, the PID, what stands for the reason, and the packet's mark.
        at, value = number * len(one), start + number
        for offset in (8, 20, 48, 60):
            struct.pack_into("=I", batch, at + offset, value)
    text.events(decoder().records(memoryview(bytes(batch))))
caches = text._skbs, text._tasks, text._packets, text._functions
assert [cache.made for cache in caches] == [1_000_000] * 4, [cache.made for cache in caches]
print(peak() - before)
"""


def test_memory_is_bounded() -> None:
    """A million events that have nothing in common, in a process of their own: after 100 000 it grows no more."""
    done = subprocess.run([sys.executable, "-c", _A_MILLION], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2048  # kB
