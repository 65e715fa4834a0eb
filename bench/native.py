"""The rate at which records become lines, on this machine itself: no kernel is traced, the records are made here.

They resemble the trace of a busy machine: packets of many flows pass through 60 functions on several CPUs at once,
lengths and interfaces change, processes alternate, and the address of an skb is reused once it is free.
"""

import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.tables import markdown, middle, shown
from pwru.commands.trace import _READ_SIZE
from pwru.record.event import Function, Where
from pwru.sinks.json import Json
from pwru.sinks.lines import Format
from pwru.sinks.stream import Writer
from pwru.sinks.text import Text
from tests.unit import records

PACKETS, FUNCTIONS, TASKS, FLOWS, CPUS, SKBS = 4000, 60, 50, 400, 3, 256
PASSES = 5
TEXT_START = 0xFFFFFFFF81000000
LAST = TEXT_START + FUNCTIONS - 1  # where the skb is freed
FORMATS: tuple[tuple[str, type[Format]], ...] = (("text", Text), ("JSON", Json))
INTRODUCTION = f"""\
On the machine itself, without a guest, Python {platform.python_version()}: {PACKETS} packets of {FLOWS} flows
through {FUNCTIONS} functions, by {TASKS} processes on {CPUS} CPUs. Medians of {PASSES}.

"""


def section() -> str:
    data = trace(random.Random(1))
    measured = [measure(data, make) for _, make in FORMATS]
    lines = [["", *(name for name, _ in FORMATS)]]
    lines += [[label, *(shown(middle(column[label])) for column in measured)] for label in measured[0]]
    return INTRODUCTION + markdown(lines)


def trace(rng: random.Random) -> memoryview:
    """Return the content of the ring buffer: each CPU works on one packet at a time, a few functions per turn."""
    free = [0xFFFF8F3C81920000 + 256 * number for number in range(SKBS)]
    ways: dict[int, Iterator[bytes]] = {cpu: iter(()) for cpu in range(CPUS)}
    unsent, written = PACKETS, []
    while ways:
        cpu = rng.choice(list(ways))
        for _ in range(rng.randrange(1, 20)):
            if record := next(ways[cpu], None):
                written.append(record)
            elif unsent:
                ways[cpu] = way(rng, cpu, free)
                unsent -= 1
            else:
                del ways[cpu]
                break
    return memoryview(b"".join(written))


def way(rng: random.Random, cpu: int, free: list[int]) -> Iterator[bytes]:
    """Yield the records of one packet, through all functions: out of one namespace and into the other."""
    flow, number = rng.randrange(FLOWS), rng.randrange(TASKS)
    task = records.task(1000 + number, b"worker-%d" % number, cpu)
    length = rng.choice((0, 0, 1448, rng.randrange(1448)))  # of the payload: acknowledgements, full packets, rest
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
        yield records.record(
            skb=skb,
            task_run=task,
            where_run=records.where(TEXT_START + function),
            packet_run=stages[function * len(stages) // FUNCTIONS],
        )
    free.append(skb)


def measure(data: memoryview, make: type[Format]) -> dict[str, list[float]]:
    """Return the measured values by label; each pass starts with empty caches, as a trace does."""
    decoder = records.decoder()
    size = _READ_SIZE // decoder.record_size * decoder.record_size
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    decoded = [decoder.records(block) for block in blocks]
    lines = sum(map(len, decoded))
    output = make(decoder, name, {LAST})
    texts = [output.events(some) for some in decoded]

    def run(writer: Writer) -> None:
        output = make(decoder, name, {LAST})
        for block in blocks:
            writer.write(output.events(decoder.records(block)))

    def decode() -> None:
        for block in blocks:
            decoder.records(block)

    def form() -> None:
        output = make(decoder, name, {LAST})
        for some in decoded:
            output.events(some)

    def write(writer: Writer) -> None:
        for text in texts:
            writer.write(text)

    with null() as nowhere, pipe() as reader:
        seconds = {
            "to /dev/null, lines/s": timed(run, nowhere),
            "to a pipe that is read, lines/s": timed(run, reader),
            "µs per line: decode": timed(decode),
            "µs per line: format": timed(form),
            "µs per line: write to /dev/null": timed(write, nowhere),
            "µs per line: write to a pipe that is read": timed(write, reader),
        }
    return {
        label: [lines / took if label.endswith("lines/s") else 1e6 * took / lines for took in values]
        for label, values in seconds.items()
    }


def name(where: Where) -> Function:
    return Function(f"some_function_of_skb_{where.addr - TEXT_START}", "")


def timed(what: Callable[..., None], *arguments: Writer) -> list[float]:
    took = []
    for _ in range(PASSES):
        began = time.perf_counter()
        what(*arguments)
        took.append(time.perf_counter() - began)
    return took


@contextmanager
def null() -> Iterator[Writer]:
    with open(os.devnull, "wb") as file:
        yield writer(file.fileno())


@contextmanager
def pipe() -> Iterator[Writer]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cat:
        assert cat.stdin
        yield writer(cat.stdin.fileno())


def writer(fd: int) -> Writer:
    writer = Writer()
    writer.fd = fd
    return writer
