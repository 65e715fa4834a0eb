"""Recordings in which something is wrong, checksums fixed up: what precedes the damage is printed, and one line said.

Each goes through `pwru -r` as a whole: lines of text or JSON, and another recording, which is a good one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwru.cli.options import parse
from pwru.commands.replay import replay
from pwru.errors import PwruError
from pwru.record import chunks, columns
from pwru.record.parts import PARTS, Field
from pwru.record.recording import Recording
from tests.support import recordings, records

from .limits import bounded, cases

SIZES = {"skb": 64, "shared_info": 32, "payload": 40}
FIELDS = (Field("skb->mark", False), Field("skb->dev->mtu", True))
ALL = records.schema(parts=tuple(PARTS.keys() - SIZES.keys() - {"values"}), tcp_flags=True, fields=FIELDS, **SIZES)
BARE = records.schema(parts=())
TEXT = [["len = ", 0, 4, 0, 0, ["int", False, {"1": "ONE"}]], ["bits = ", 4, 4, 3, 5, ["int", False, {}]]]
SHAPE = ["struct", [*TEXT, ["cb = (u64[])", 8, 16, 0, 0, ["array", "u64", 8, ["int", True, {}]]]]]
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 4096, 65535, 1 << 20, (1 << 31) - 1, 1 << 32, (1 << 62) + 1, (1 << 64) - 1, 1 << 64)
HOSTILE: tuple[Any, ...] = (
    *NUMBERS,
    *(-number for number in NUMBERS[1:]),
    *(10**4000, 0.5, float("inf"), float("nan"), True, False, None, "", [], {}, [[]], [0], {"a": []}),
    *("\x1b[2J", "a\nb", "\ud800", "x" * 5000, '","x":"', "0", "skb", "task", "time", "details", "struct", "array"),
    *(["ptr"], ["bytes"], ["struct", []], ["struct", [["", 0, 4096, 0, 0, ["bytes"]]] * 100]),
)
JSON = (chunks.HEADER, chunks.NAMES, chunks.ACCOUNT)
FLAGS = (
    *("--output-json", "--output-json", "--output-caller", "--output-netns-names", "--output-packet-id"),
    *("--output-stack", "--output-skb", "--output-skb-shared-info", "--output-skb-cb", "--output-tunnel"),
    *("--output-payload=20", "--output-tcp-flags", "--output-skb-metadata=skb->mark", "--output-meta=false"),
    *("--timestamp=current", "--timestamp=relative", "--timestamp=absolute"),
    *("--filter-func=f.*0|x", "--filter-netns=blue", "--filter-comm=client1", "--filter-mark=1/1"),
    *("--filter-drop-reason=any", "--filter-packet=1,2", "--follow=false"),
    *("--filter-time=+0..+1", "--filter-time=+0.001..", "--filter-time=..12:00", "--filter-time=2026-01-01T00:00.."),
)
Chunk = tuple[bytes, bytes]


@cache
def originals() -> list[bytes]:
    rng = Random(0)
    whole = [records.cut(ALL, rng.randbytes(ALL.size)) for _ in range(12)]
    few = records.cut(ALL, *(bytes(ALL.size), b"\1" * ALL.size) * 3)
    bare = records.cut(BARE, *(rng.randbytes(BARE.size) for _ in range(8)))
    times = [record._replace(time=10**9 + number) for number, record in enumerate(few)]
    events = recordings.events()
    return [
        recordings.write(None, [events[:7], events[7:]]),
        recordings.write(None, [events], account=False),
        recordings.write(None, [times, [r._replace(time=1 << 50) for (r,) in whole]], schema=ALL, shape=SHAPE),
        recordings.write(None, [bare[:3], bare[3:]], schema=BARE),
    ]


def split(data: bytes) -> list[Chunk]:
    return list(chunks.read(BytesIO(data)))


def join(pieces: list[Chunk]) -> bytes:
    return chunks.start() + b"".join(sealed(kind, zlib.compress(data, 1), len(data)) for kind, data in pieces)


def sealed(kind: bytes, stored: bytes, size: int, length: int | None = None) -> bytes:
    head = struct.pack("<4sII", kind, len(stored) if length is None else length, size & 0xFFFFFFFF)
    return head + struct.pack("<I", zlib.crc32(stored, zlib.crc32(head))) + stored


def damaged(rng: Random) -> bytes:
    data = rng.choice(originals())
    if rng.random() < 0.15:
        return of_bytes(rng, data)
    pieces = split(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(pieces))
        kind, inside = pieces[at]
        match rng.randrange(10):
            case 0:
                other = rng.randrange(len(pieces))
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 1:
                pieces.insert(
                    rng.randrange(len(pieces)), (rng.choice((kind, *JSON, b"EVNT", b"CONT", b"NEW\0")), inside)
                )
            case 2 if len(pieces) > 1:
                del pieces[at]
            case 3:
                pieces[at] = kind, of_bytes(rng, inside) if inside else b""
            case _ if kind in JSON:
                pieces[at] = kind, of_json(rng, inside)
            case _ if kind == chunks.EVENTS:
                pieces[at] = kind, of_events(rng, inside)
    return join(pieces)


def of_bytes(rng: Random, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 3, 10))):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2 if at:
                del data[at:]
            case 3:
                start, length = rng.randrange(len(data)), rng.choice((1, 4, 100))
                data[at : at + length] = data[start : start + length]
    return bytes(data)


def of_json(rng: Random, data: bytes) -> bytes:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):  # damaged before
        return data
    if rng.random() < 0.05:
        return rng.choice((b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"{}", b"[]", b"1", b"", b"\xff"))
    nodes = list(places(said)) if isinstance(said, dict | list) else []
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(nodes) if nodes else ({}, 0)
        try:
            before = holder[key]
            match rng.randrange(8):
                case 0:
                    del holder[key]
                case 1:
                    holder[key] = rng.choice(rng.choice(nodes))
                case 2 if type(before) is int:
                    holder[key] = before + rng.choice((-8, -1, 1, 8, 4096))
                case 3 if isinstance(holder, list):
                    holder.insert(key, before)
                case 4 if type(before) is list and before:
                    holder[key] = before * rng.choice((2, 100))
                case _:
                    holder[key] = rng.choice(HOSTILE)
        except (LookupError, TypeError):  # it was removed before
            pass
    try:
        return json.dumps(said).encode()
    except (ValueError, RecursionError):  # it has come to contain itself
        return data


def places(said: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every holder of a value, with its key."""
    for key, value in said.items() if isinstance(said, dict) else enumerate(said):
        yield said, key
        if isinstance(value, dict | list):
            yield from places(value)


def of_events(rng: Random, data: bytes) -> bytes:
    """Change a number that says how columns are coded."""
    changed = bytearray(data)
    starts, at = [], 12
    while at + 5 <= len(data):
        starts.append(at)
        at += 5 + int.from_bytes(data[at + 1 : at + 5], "little")
    place = rng.choice(starts or [0])
    match rng.randrange(5):
        case 0:
            changed[place] = rng.randrange(6)
        case 1:
            changed[place + 1 : place + 5] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        case 2:
            changed[place + 5 : place + 9] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        case 3:
            changed[:12] = struct.pack(
                "<Iq", rng.choice(NUMBERS) & 0xFFFFFFFF, rng.choice((0, 1 << 61, -1 << 61, -1 << 63))
            )
        case 4:
            changed[place:place] = data[place : place + rng.choice((5, 100))]
    return bytes(changed)


def flags(rng: Random) -> list[str]:
    return [flag for flag in FLAGS if rng.random() < 0.15]


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def run(here: Path, data: bytes, *words: str) -> None:
    (here / "x").write_bytes(data)
    asked = parse([f"-r{here / 'x'}", f"-w{here / 'again'}", f"--output-file={here / 'lines'}", *words])
    said: list[str] = []
    try:
        replay(asked, said.append)
    finally:
        assert all(line.isprintable() for message in said for line in message.split("\n")), said
        lines = (here / "lines").read_text().splitlines() if (here / "lines").exists() else []
        assert all(line.replace("\t", " ").isprintable() for line in lines)
        if asked.json:
            assert all(isinstance(json.loads(line), dict) for line in lines)
            assert all(isinstance(json.loads(line, parse_constant=pytest.fail), dict) for line in said[1:])


def check_again(path: Path) -> None:
    """What was written of it is a good recording."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            for _ in Recording(file).chunks():
                pass


@cases
@given(st.integers(0, 2**64))
def test_damaged_recordings(seed: int) -> None:
    rng = Random(seed)
    with folder() as here:
        with bounded():
            run(here, damaged(rng), *flags(rng))
        check_again(here / "again")


@pytest.mark.parametrize(
    "chunk",
    [
        sealed(b"NAME", zlib.compress(bytes(1 << 28)), chunks.MAX_SIZE),
        sealed(b"NEW!", zlib.compress(bytes(1 << 28)), 1 << 28),
        sealed(b"EVNT", b"", chunks.MAX_SIZE, chunks.MAX_SIZE),
        sealed(b"EVNT", b"", 0xFFFFFFFF, 0xFFFFFFFF),
        sealed(b"EVNT", zlib.compress(bytes(100)), 99),
        sealed(b"EVNT", zlib.compress(bytes(100)), 101),
        sealed(b"EVNT", zlib.compress(bytes(100))[:-1], 100),
        sealed(b"EVNT", zlib.compress(bytes(100)) + b"more", 100),
        sealed(b"NAME", zlib.compress(b'{"a":[' + b"[]," * (5 << 20) + b"0]}"), 6 + (15 << 20) + 3),
    ],
    ids=range(9),
)
def test_lengths(chunk: bytes) -> None:
    """A few bytes that say, or become, many."""
    good = originals()[0]
    with folder() as here, pytest.raises(PwruError, match=r"damaged|ends within"):
        run(here, good + chunk)


def test_many_long_names() -> None:
    """Each chunk is a good one; all names together are more than the memory."""
    start = chunks.start() + chunks.chunk(*split(originals()[0])[0])
    with folder() as here, (here / "names").open("wb") as file:
        file.write(start)
        for number in range(60):
            functions = [[number << 32 | n, 0, 0, f"{n}" + "x" * 1000, "y" * 1000, False, ""] for n in range(1900)]
            stacks = [[number, [n] * 100, ["z" * 10] * 100] for n in range(1000)]
            for tables in ({"functions": functions}, {"stacks": stacks}):
                file.write(chunks.chunk(chunks.NAMES, json.dumps(tables).encode()))
        file.flush()
        with pytest.raises(PwruError, match="without an account"):
            run(here, (here / "names").read_bytes())


def test_many_skbs() -> None:
    """Which all live, in more chunks than fit."""
    schema = records.schema(parts=("follow",))
    blank = records.cut(schema, bytes(schema.size))[0]
    pieces = []
    for number in range(20):
        first = number << 16
        events = [blank._replace(follow=records.follow(first + n)) for n in range(1, columns.MAX_EVENTS // 16)]
        pieces.append((chunks.EVENTS, columns.encode(columns.columns_of(events, 0))))
    header = split(recordings.write(None, [[blank]], schema=schema))[0]
    with folder() as here, pytest.raises(PwruError, match="without an account"):
        run(here, join([header, *pieces]))
