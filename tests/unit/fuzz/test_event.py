"""Bytes of a ring buffer to lines: each whole record, whatever its content, is one line that is safe to print."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pwru.kernel.btf import Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.libbpf.ringbuf import Records
from pwru.live.names import LiveNames
from pwru.record.parts import PARTS, Field
from pwru.record.schema import Record, Schema
from pwru.sinks.json import Json
from pwru.sinks.lines import Format, LineStyle
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.support.records import record, schema
from tests.unit.live.names import FakeKernel, function_names, tracepoint_names

from .limits import bounded, cases

# The sizes that a run may choose, by part: as small as it gets.
SIZES = {"values": 8, "skb": 1, "shared_info": 1, "payload": 1}
FORMATS: tuple[type[Format], ...] = (Text, Json)
NUMBERS = (0, 1, 4, 6, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
NAMES: tuple[bytes, ...] = (
    b"",
    b"\x1b[2J",
    b"a\nb",
    b"\xff\xfe",
    b"\xc3",
    "ü".encode(),
    b"\r",
    b"\xe2\x80\xa8",
    b'"\\',
    b"x" * 16,
)

FUNCTION = 0xFFFFFFFF81000000
KALLSYMS = Path(__file__).parents[1] / "kernel/data/kallsyms"


def names(tracepoints: bool) -> LiveNames:
    target = Target("kfree_skb_reason", FUNCTION, 1, 2, False, 7, None, False)
    kernel = FakeKernel(lambda: Kallsyms.read(str(KALLSYMS)), {2: "SKB_DROP_REASON_NOT_SPECIFIED"})
    if tracepoints:
        return tracepoint_names(kernel, [Tracepoint("kfree_skb", 0, 2, 1), Tracepoint("netif_rx", 0, None, None)])
    return function_names(kernel, {FUNCTION: target, 3: target._replace(name="kfree_skbmem", reason_arg=0)})


NAMES_OF_HITS = [names(tracepoints) for tracepoints in (False, True)]


def any_schema(rng: Random) -> Schema:
    """Return a schema with each part or without it; stacks are rare, since every frame of theirs is looked up."""
    parts = {part: SIZES.get(part, 0) for part in PARTS if rng.random() < (0.1 if part == "stack" else 0.5)}
    fields = (Field("skb->mark", False),) if parts.pop("values", 0) else ()
    return schema(parts=(), tcp_flags=rng.random() < 0.5, fields=fields, **parts)


def body(rng: Random, of: Schema) -> bytearray:
    """The body of a record, with a few extreme values."""
    size = of.size
    if of.parts == schema().parts and rng.random() < 0.5:
        data = bytearray(record())
    else:
        data = bytearray(rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size))))
    for _ in range(rng.choice((0, 1, 3, 10))):
        at = rng.randrange(size)
        value = rng.choice((rng.choice(NAMES), rng.choice(NUMBERS).to_bytes(8, "little")[: rng.choice((1, 2, 4, 8))]))
        data[at : at + len(value)] = value
    return data[:size]


def ring(rng: Random, of: Schema) -> tuple[bytes, int]:
    """The content of a ring buffer, and the number of complete records at its beginning."""
    size = of.size
    are_complete = [rng.random() < 0.95 for _ in range(rng.choice((0, 1, 2, 5, 20)))]
    data = b""
    for complete in are_complete:
        length = size if complete else rng.choice((size | 1 << 31, size | 1 << 30, 0, 1, size + 8, 0xFFFFFFFF))
        data += struct.pack("=II", length, rng.choice((0, rng.getrandbits(32)))) + body(rng, of)
    if rng.random() < 0.3:
        data += rng.randbytes(8 * rng.randrange(size // 8 + 1))
    count = next((index for index, complete in enumerate(are_complete) if not complete), len(are_complete))
    return data, count


def is_pretty(line: str) -> bool:
    return line.isprintable() and bool(line.strip())


@cases
@given(st.integers(0, 2**64))
def test_records(seed: int) -> None:
    rng = Random(seed)
    of = schema() if rng.random() < 0.1 else any_schema(rng)
    make = rng.choice(FORMATS)
    further_lines = make is Text and not of.parts.isdisjoint(("stack", "skb", "shared_info", "payload", "bpfmap"))
    with bounded():
        clock = rng.choice(list(CLOCKS)) if "time" in of.parts else "none"
        output = make(of, rng.choice(NAMES_OF_HITS), LineStyle(timestamp=clock, packet_id=rng.random() < 0.5))
        for _ in range(rng.choice((1, 2))):
            data, count = ring(rng, of)
            records = [Record._make(fields) for fields in Records(of.format).complete(memoryview(data))]
            assert len(records) == count
            text = output.events(records)
            lines = text.split("\n")
            assert lines.pop() == ""
            assert len(lines) >= count if further_lines else len(lines) == count
            assert all(is_pretty(line.replace("\t", " ") if further_lines else line) for line in lines)
            if make is Json:
                assert all(isinstance(json.loads(line), dict) for line in lines)
        assert output.packets >= 0
