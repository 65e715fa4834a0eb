"""How fast records become lines, and Python starts, on this machine itself: no kernel is traced.

The records are made here. They are a trace as a busy machine makes it: packets of many flows on their way through 60
functions on several CPUs at a time, in which lengths and interfaces change, processes alternate, and the address of an
skb is used again once it is free.
"""

import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench import recording, table
from bench.tables import markdown, middle, shown
from pwru.libbpf.ringbuf import Records
from pwru.live.session import READ_SIZE
from pwru.record.names import Function, Hit
from pwru.sinks.json import Json
from pwru.sinks.lines import Format, Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.text import Text
from tests.support import records
from tests.support.imports import TRACE, modules
from tests.support.source import FakeNames, FakeSource

PACKETS, FUNCTIONS, TASKS, FLOWS, CPUS, SKBS = 4000, 60, 50, 400, 3, 256
PASSES = 5
STARTED = 11
TEXT_START = 0xFFFFFFFF81000000
LAST = TEXT_START + FUNCTIONS - 1  # where the skb is freed
FORMATS: tuple[tuple[str, type[Format]], ...] = (("text", Text), ("JSON", Json))
INTRODUCTION = f"""\
## Natively: from records to lines

On the machine itself, without a guest, Python {platform.python_version()}: {PACKETS} packets of {FLOWS} flows
through {FUNCTIONS} functions, by {TASKS} processes on {CPUS} CPUs. Medians of {PASSES}.

"""


STARTS = (
    ("the interpreter alone", ("-c", "pass")),
    ("`pwru --version`", ("-m", "pwru", "--version")),
    ("what a trace imports", ("-c", TRACE)),
)
START = f"""
## Natively: what the interpreter and imports take of a start

Python starts {STARTED} times, one after the other. A trace imports {{count}} modules.

"""


def section() -> str:
    return lines() + starts() + recording.section() + table.section()


def starts() -> str:
    """Return how long a start takes, without what the kernel does."""
    rows = [["", "ms"]]
    for label, arguments in STARTS:
        spent = [_start(arguments) for _ in range(STARTED)]
        rows.append([label, shown(middle(spent))])
    return START.format(count=len(modules(TRACE))) + markdown(rows)


def _start(arguments: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1e3


def lines() -> str:
    data = trace(random.Random(1))
    measured = [measure(data, make) for _, make in FORMATS]
    rows = [["", *(name for name, _ in FORMATS)]]
    rows += [[label, *(shown(middle(column[label])) for column in measured)] for label in measured[0]]
    return INTRODUCTION + markdown(rows)


def trace(rng: random.Random) -> memoryview:
    """Return the content of a ring buffer: each CPU works on one packet at a time, for a few functions in turn."""
    free = [0xFFFF8F3C81920000 + 256 * number for number in range(SKBS)]
    ways: dict[int, Iterator[bytes]] = {cpu: iter(()) for cpu in range(CPUS)}
    left, written = PACKETS, []
    while ways:
        cpu = rng.choice(list(ways))
        for _ in range(rng.randrange(1, 20)):
            if record := next(ways[cpu], None):
                written.append(record)
            elif left:
                ways[cpu] = way(rng, cpu, free)
                left -= 1
            else:
                del ways[cpu]
                break
    return memoryview(b"".join(written))


def way(rng: random.Random, cpu: int, free: list[int]) -> Iterator[bytes]:
    """Yield the records of a packet on its way through all functions, from one namespace to the other."""
    flow, number = rng.randrange(FLOWS), rng.randrange(TASKS)
    task = records.task(1000 + number, b"worker-%d" % number, cpu)
    length = rng.choice((0, 0, 1448, rng.randrange(1448)))  # of the payload: acknowledgements, full packets, others
    ports = (32768 + flow, 443)
    tuple_ = records.addresses(f"10.0.{flow % 7}.{flow % 250 + 1}", "10.9.0.2", ports, 6)
    stages = [
        records.meta(netns=netns, ifindex=ifindex, ifname=name, length=length + headers) + tuple_
        for netns, ifindex, name, headers in (
            *((4026531840, 0, b"", 32), (4026531840, 2, b"eth0", 52), (4026531840, 2, b"eth0", 66)),
            *((4026532300, 7, b"veth1a2b3c", 66), (4026532300, 7, b"veth1a2b3c", 52), (4026532300, 0, b"", 32)),
        )
    ]
    skb = free.pop(rng.randrange(len(free)))
    for function in range(FUNCTIONS):
        packet = stages[function * len(stages) // FUNCTIONS]
        yield records.in_ring(records.record(skb=skb, task=task, hit=records.hit(TEXT_START + function), packet=packet))
    free.append(skb)


def measure(data: memoryview, make: type[Format]) -> dict[str, list[float]]:
    """Return the values by their labels; a format begins with nothing remembered, as a trace does."""
    schema, names = records.schema(), FakeNames(name, ends={LAST})
    decode: Callable[[memoryview], list[Any]] = Records(schema.format).complete
    size = READ_SIZE // Records(schema.format).size * Records(schema.format).size
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    batches = [decode(block) for block in blocks]
    lines = sum(map(len, batches))
    output = make(schema, names)
    texts = [output.events(batch) for batch in batches]

    def run(stream: Stream) -> None:
        sink = Lines(make, stream, LineStyle())
        sink.begin(FakeSource(schema, names))
        for block in blocks:
            sink.write(decode(block))

    def decode_all() -> None:
        for block in blocks:
            decode(block)

    def form() -> None:
        output = make(schema, names)
        for batch in batches:
            output.events(batch)

    def write(stream: Stream) -> None:
        for text in texts:
            stream.write(text)

    with null() as nowhere, pipe() as reader:
        seconds = {
            "to /dev/null, lines/s": timed(run, nowhere),
            "to a pipe that is read, lines/s": timed(run, reader),
            "µs per line: decode": timed(decode_all),
            "µs per line: format": timed(form),
            "µs per line: write to /dev/null": timed(write, nowhere),
            "µs per line: write to a pipe that is read": timed(write, reader),
        }
    return {
        label: [lines / took if label.endswith("lines/s") else 1e6 * took / lines for took in values]
        for label, values in seconds.items()
    }


def name(hit: Hit) -> Function:
    return Function(f"some_function_of_skb_{hit.addr - TEXT_START}", "")


def timed(what: Callable[..., None], *arguments: Stream) -> list[float]:
    took = []
    for _ in range(PASSES):
        began = time.perf_counter()
        what(*arguments)
        took.append(time.perf_counter() - began)
    return took


@contextmanager
def null() -> Iterator[Stream]:
    with open(os.devnull, "wb") as file:
        yield opened(file.fileno())


@contextmanager
def pipe() -> Iterator[Stream]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cat:
        assert cat.stdin
        yield opened(cat.stdin.fileno())


def opened(fd: int) -> Stream:
    stream = Stream(fd)
    stream.open()
    return stream
