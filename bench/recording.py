"""How fast records are recorded and read again, beside how fast they are printed, and how large a recording is.

Two traces: a flood, datagrams of one flow one after the other; and an ordinary one, packets of many flows with random
payloads. A recording has more of each event than a line: the time, the packet's number, 128 bytes of it.
"""

import os
import random
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import cast

from bench.tables import markdown, shown
from pwru.live.session import READ_SIZE
from pwru.record.names import Function, Hit
from pwru.record.schema import Record, Schema
from pwru.record.shown import Shown
from pwru.replay.source import Replay
from pwru.replay.wanted import Wanted
from pwru.sinks import Sink
from pwru.sinks.lines import Lines, LineStyle
from pwru.sinks.record import Recorder
from pwru.sinks.rotate import Backups, File
from pwru.sinks.stream import Stream
from pwru.sinks.text import Text
from tests.support import records
from tests.support.source import FakeNames, FakeSource

EVENTS, FUNCTIONS, FLOWS, PASSES = 120_000, 60, 400, 5
FIRST = 0xFFFFFFFF81000000
PAYLOAD = 128
JITTER = random.Random(2)
SCHEMA = records.schema(
    parts=("location", "meta", "cb", "tuple", "tunnel", "follow", "time"), tcp_flags=True, payload=PAYLOAD
)
LINE = Shown({"meta": 0, "tuple": 0})
CUT = struct.Struct(f"={SCHEMA.format}")
BATCH = READ_SIZE // CUT.size * CUT.size
INTRODUCTION = f"""
## Natively: recordings

{EVENTS} events of packets through {FUNCTIONS} functions, each with {SCHEMA.size} bytes. In one process, in turns;
CPU time, medians of {PASSES}. Lines go to /dev/null, recordings to a file in memory.

"""


def section() -> str:
    measured = [measure(flood()), measure(ordinary(random.Random(1)))]
    rows = [["", "flood", "ordinary"]]
    rows += [[label, *(shown(column[label]) for column in measured)] for label in measured[0]]
    return INTRODUCTION + markdown(rows)


def flood() -> bytes:
    numbers = range(1, EVENTS // FUNCTIONS + 1)
    return b"".join(record for number in numbers for record in way(number, (7777, 9999), 17, 92, bytes(PAYLOAD)))


def ordinary(rng: random.Random) -> bytes:
    def ways() -> Iterator[Iterator[bytes]]:
        for number in range(1, EVENTS // FUNCTIONS + 1):
            length = rng.choice((0, 0, 1448, rng.randrange(1448)))
            payload = rng.randbytes(54) + rng.randbytes(min(length, PAYLOAD - 54))
            yield way(number, (32768 + rng.randrange(FLOWS), 443), 6, 54 + length, payload)

    return b"".join(chain.from_iterable(ways()))


def way(number: int, ports: tuple[int, int], protocol: int, length: int, payload: bytes) -> Iterator[bytes]:
    """Yield the records of a packet: about a microsecond apart, through three devices, cb changing now and then."""
    task = records.task(1000 + number % 50, b"worker-%d" % (number % 50), number % 3)
    tuple_, no_tunnel = records.addresses(f"10.0.{ports[0] % 7}.9", "10.9.0.2", ports, protocol), records.NO_IP
    head = records.wire().layout("payload").pack({"length": length, "size": len(payload), "has_mac": 1})
    last = FUNCTIONS - 1
    for function in range(FUNCTIONS):
        device = function * 3 // FUNCTIONS
        meta = records.meta(netns=4026531840 + device // 2, ifindex=device, ifname=b"veth%d" % device, length=length)
        yield records.record(
            skb=0xFFFF8F3C81920000 + number % 256 * 256,
            task=task,
            hit=records.hit(FIRST + function, 0, FIRST + 0x1000 + function),
            packet=meta + records.cb(function // 20, 0, 0, 0, 0) + tuple_ + no_tunnel,
            rest=records.follow(number, tracked_by="SKB" if function else "FILTER", ended=function == last)
            + records.u64(10**12 + number * 100_000 + function * 1000 + JITTER.randrange(900))
            + head
            + payload.ljust(PAYLOAD, b"\0"),
        )


def measure(events: bytes) -> dict[str, float]:
    names = FakeNames(name, ends={FIRST + FUNCTIONS - 1})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, open(os.devnull, "wb") as null:
        path = Path(folder) / "x"

        def lines() -> None:
            run(Lines(Text, Stream(null.fileno()), LineStyle(), LINE), SCHEMA, names, events)

        def record() -> None:
            file = File(str(path), 1 << 60, Backups(str(path)), whole=True)
            run(Recorder(file, json=False, command=()), SCHEMA, names, events)

        def read() -> None:
            assert sum(map(len, Replay([str(path)]).read(Wanted(), None))) == EVENTS

        def select() -> None:
            assert not sum(map(len, Replay([str(path)]).read(Wanted(netns="1"), None)))

        took = [[timed(what) for what in (lines, record, read, select)] for _ in range(PASSES)]
        printing, recording, reading, filtering = (statistics.median(each) for each in zip(*took, strict=True))
        size = path.stat().st_size
    return {
        "printed, lines/s": EVENTS / printing,
        "recorded, events/s": EVENTS / recording,
        "recording / printing, time": recording / printing,
        "read, events/s": EVENTS / reading,
        "read where a filter takes none, events/s": EVENTS / filtering,
        "bytes per event": size / EVENTS,
    }


def run(sink: Sink, schema: Schema, names: FakeNames, events: bytes) -> None:
    sink.open()
    sink.begin(FakeSource(schema, names))
    for start in range(0, len(events), BATCH):  # as they are read from the ring
        sink.write(cast(list[Record], list(CUT.iter_unpack(events[start : start + BATCH]))))
    sink.flush()
    sink.close()


def timed(what: Callable[[], None]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


def name(hit: Hit) -> Function:
    return Function(f"some_function_of_skb_{hit.addr - FIRST}", f"its_caller+{hit.location - FIRST:#x}")
