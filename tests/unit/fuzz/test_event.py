"""Bytes of a ring buffer to lines: each whole record, whatever its content, is one line that is safe to print."""

from __future__ import annotations

import itertools
import json
import struct
from random import Random
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from pwru.kernel.btf import Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.live.backends import Probes
from pwru.live.names import Symbolizer
from pwru.record.event import Parts
from pwru.sinks.json import Json
from pwru.sinks.lines import Extras, Format
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.unit.kernel.samples import KALLSYMS
from tests.unit.records import decoder, record

from .limits import bounded, cases

ALL_PARTS = [Parts(*chosen) for chosen in itertools.product((False, True), repeat=len(Parts._fields))]
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


def symbolizer(tracepoints: bool) -> Symbolizer:
    target = Target("kfree_skb_reason", FUNCTION, 1, 2, False, 7, None, False)
    sites = SimpleNamespace(
        tracepoints=[Tracepoint("kfree_skb", 0, 2, 1), Tracepoint("netif_rx", 0, None, None)],
        drop_reasons={2: "SKB_DROP_REASON_NOT_SPECIFIED"},
        kallsyms=Kallsyms.read(str(KALLSYMS)),
        forget_symbols=lambda: None,
    )
    by_address = {} if tracepoints else {FUNCTION: target, 3: target._replace(name="kfree_skbmem", reason_arg=0)}
    return Symbolizer(cast(Probes, SimpleNamespace(sites=sites, by_address=by_address)))


SYMBOLIZERS = [symbolizer(tracepoints) for tracepoints in (False, True)]


def body(rng: Random, parts: Parts) -> bytearray:
    """The body of a record, with a few extreme values."""
    size = decoder(parts).layout["record_size"]
    if parts == Parts() and rng.random() < 0.5:
        data = bytearray(record()[8:])
    else:
        data = bytearray(rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size))))
    for _ in range(rng.choice((0, 1, 3, 10))):
        at = rng.randrange(size)
        value = rng.choice((rng.choice(NAMES), rng.choice(NUMBERS).to_bytes(8, "little")[: rng.choice((1, 2, 4, 8))]))
        data[at : at + len(value)] = value
    return data[:size]


def ring(rng: Random, parts: Parts) -> tuple[bytes, int]:
    """The content of a ring buffer, and the number of complete records at its beginning."""
    size = decoder(parts).layout["record_size"]
    kinds = [rng.random() < 0.95 for _ in range(rng.choice((0, 1, 2, 5, 20)))]
    data = b""
    for whole in kinds:
        length = size if whole else rng.choice((size | 1 << 31, size | 1 << 30, 0, 1, size + 8, 0xFFFFFFFF))
        data += struct.pack("=II", length, rng.choice((0, rng.getrandbits(32)))) + body(rng, parts)
    if rng.random() < 0.3:
        data += rng.randbytes(8 * rng.randrange(decoder(parts).record_size // 8))
    return data, next((index for index, whole in enumerate(kinds) if not whole), len(kinds))


def is_pretty(line: str) -> bool:
    return line.isprintable() and bool(line.strip())


@cases
@given(st.integers(0, 2**64))
def test_records(seed: int) -> None:
    rng = Random(seed)
    parts = rng.choice(ALL_PARTS)
    symbols = rng.choice(SYMBOLIZERS)
    made = rng.choice(FORMATS)
    with bounded():
        clock = rng.choice(list(CLOCKS.values()))() if parts.time else None
        output = made(decoder(parts), symbols.function, symbols.last(), Extras(clock))
        for _ in range(rng.choice((1, 2))):
            data, whole = ring(rng, parts)
            records = decoder(parts).records(memoryview(data))
            assert len(records) == whole
            text = output.events(records)
            lines = text.split("\n")
            assert lines.pop() == ""
            assert len(lines) == whole
            assert all(map(is_pretty, lines))
            if made is Json:
                assert all(isinstance(json.loads(line), dict) for line in lines)
        assert output.packets >= 0
