"""How fast a recording becomes an Arrow table, and a Parquet file, and what memory that takes.

The recording is made here: packets of many flows, each on its way through 30 functions, with all that `-w` records.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.tables import markdown
from pwru.record.names import Function, Hit
from pwru.record.schema import Record, Schema
from pwru.sinks.record import Recorder
from pwru.sinks.rotate import Backups, File
from tests.support import records
from tests.support.source import FakeNames, FakeSource

PARTS = ("location", "meta", "cb", "tuple", "tunnel", "follow", "time")
FUNCTIONS, FLOWS, PAYLOAD, AT_ONCE = 30, 400, 128, 500
SIZES = (1_000_000, 4_000_000)
INTRODUCTION = f"""
## Natively: from a recording to a table

Packets of {FLOWS} flows through {FUNCTIONS} functions, {AT_ONCE} packets at a time, with all that `-w` records. Of the
processor time, the import of pyarrow is left out; the memory is the peak of the resident set of the whole process.

"""
# Prints the seconds of the processor that all threads took, and the peak of the memory in KB.
_MEASURE = """
import json, resource, sys, time
import pwru, pwru.events.source
pwru.events.source.need_arrow()
import pyarrow.parquet
recording, what = sys.argv[1:]
began = time.process_time()
with pwru.open(recording) as source:
    if what == "Parquet":
        count = source.to_parquet(recording + ".parquet")
    else:
        count = sum(batch.num_rows for batch in source.to_arrow())
spent = time.process_time() - began
print(json.dumps([count / spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def schema() -> Schema:
    return records.schema(parts=PARTS, tcp_flags=True, payload=PAYLOAD)


def packets(count: int) -> Iterator[list[Record]]:
    """Yield the events of so many packets, AT_ONCE at a time, which take turns."""
    rng = random.Random(1)
    hits = [
        records.hit(0x1000 + n, 2 * (n == FUNCTIONS - 1 and f), 0x5000 + n) for n in range(FUNCTIONS) for f in (0, 1)
    ]
    flows = [
        (
            records.addresses(f"10.0.{flow % 7}.{flow % 250 + 1}", "10.9.0.2", (32768 + flow, 443), 6, 16),
            records.task(1000 + flow % 50, b"worker-%d" % (flow % 50), flow % 8),
        )
        for flow in range(FLOWS)
    ]
    head = records.wire().layout("payload").pack({"length": 1514, "size": PAYLOAD, "has_mac": 1})
    cb = records.cb(0, 0, 0, 0, 0)
    inner = records.addresses(source="", destination="", l4=0)
    now, number = 10**12, 0
    while number < count:
        ways = []
        for _ in range(min(AT_ONCE, count - number)):
            number += 1
            addresses, task = rng.choice(flows)
            length = rng.choice((0, 0, 1448, rng.randrange(1448)))
            stages = [
                records.meta(netns=netns, ifindex=index, ifname=name, length=length + more) + cb + addresses + inner
                for netns, index, name, more in ((4026531840, 2, b"eth0", 66), (4026532300, 7, b"veth1a2b3c", 52))
            ]
            first, others, last = (
                records.follow(number, tracked_by=by, ended=end)
                for by, end in (("FILTER", False), ("SKB", False), ("SKB", True))
            )
            skb, details = 0xFFFF8F3C81920000 + 256 * (number % 4096), head + rng.randbytes(PAYLOAD)
            ways.append(
                [
                    (
                        skb,
                        task,
                        hits[2 * step + (number % 50 == 0)],
                        stages[step * 2 // FUNCTIONS],
                        first if not step else last if step == FUNCTIONS - 1 else others,
                        details,
                    )
                    for step in range(FUNCTIONS)
                ]
            )
        batch = []
        for begin in range(0, FUNCTIONS, 5):
            for way in ways:
                for skb, task, hit, packet, follow, details in way[begin : begin + 5]:
                    now += 700
                    batch.append(Record(skb, task, hit, packet, follow, now, details))
        yield batch


def record(path: Path, events: int) -> None:
    """Record so many events."""

    def name(hit: Hit) -> Function:
        reason = "(SKB_DROP_REASON_NO_SOCKET)" if hit.reason else ""
        return Function(f"some_function_of_skb_{hit.addr:x}{reason}", f"caller_{hit.location:x}+0x10", bool(reason))

    sink = Recorder(File(str(path), 1 << 60, Backups(str(path)), whole=True), json=False, command=("tcp",))
    sink.open()
    sink.begin(FakeSource(schema(), FakeNames(name, ends={0x1000 + FUNCTIONS - 1})))
    for batch in packets(events // FUNCTIONS):
        sink.write(batch)
    sink.flush()
    sink.close()


def section() -> str:
    """Return how fast a table is made, and in what memory."""
    rows = [["", *(f"{what}, {unit}" for what in ("Arrow", "Parquet") for unit in ("events per s of CPU", "MB"))]]
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder, "x.pwru")
            record(path, size)
            measured = [number for what in ("Arrow", "Parquet") for number in _measure(path, what)]
            rows.append([f"{size:,} events", *(f"{number:,.0f}" for number in measured)])
            path.unlink()
    return INTRODUCTION + markdown(rows)


def _measure(path: Path, what: str) -> list[float]:
    command = [sys.executable, "-W", "ignore", "-c", _MEASURE, str(path), what]
    numbers: list[float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return numbers
