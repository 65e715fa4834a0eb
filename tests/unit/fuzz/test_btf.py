"""The reader of BTF on real BTF in which something is wrong: bytes, counts, kinds, references, names, its end."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwru.errors import PwruError
from pwru.kernel import btf
from pwru.kernel.btf import VMLINUX, Btf, functions, no_trampoline, read_btf, tracepoints
from pwru.kernel.btf.load import elf_section
from tests.support.records import OBJECT
from tests.unit.kernel.btf_writer import KINDS
from tests.unit.kernel.samples import DATA, Sample, rich

from .limits import CASES, bounded, cases

HEADER = struct.Struct("=HBBIIIII")
LONG_HEADER = 32
NUMBERS = (0, 1, 2, 5, 23, 24, 31, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@cache
def originals() -> list[tuple[bytes, Btf | None]]:
    """With the base that it continues."""
    base = Sample()
    module = Sample(base)
    private = module.struct("private", 16, ("skb", base.pskb, 0), ("reason", base.reason, 64))
    module.func("xmit", base.pskb, module.ref("PTR", private))
    module.func("const", module.ref("PTR", module.ref("CONST", base.skb)), base.reason)
    new = Sample()
    new.func("ip_rcv", new.pskb)
    new.add(20, "unknown", 0, 1, 2, 3, vlen=2)
    new.add(21, "", 0, 1, 2, 3, 4, vlen=1)
    new.func("last", new.pskb, new.reason)
    new.add_layout((4, 4), (0, 16))
    compiled = [elf_section(BytesIO(path.read_bytes()), path) for path in (OBJECT, DATA / "sample.elf")]
    return [(rich(), None), (new.data(), None), (module.data(), Btf(base.data())), *((data, None) for data in compiled)]


def damaged(rng: Random, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 10))):
        if len(data) < HEADER.size:
            break
        *_, size, type_off, type_len, str_off, _ = HEADER.unpack_from(data)
        types, strings = size + type_off, size + str_off
        match rng.randrange(11):
            case 0:  # any byte
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 1:  # any bit
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 2:  # the end
                del data[rng.randrange(len(data)) :]
            case 3 if len(data) >= LONG_HEADER:  # the header
                struct.pack_into("=I", data, rng.randrange(4, size_of_header(size), 4), rng.choice(NUMBERS))
            case 4 if len(data) >= LONG_HEADER:  # where its sections are
                at = rng.randrange(8, size_of_header(size), 4)
                (old,) = struct.unpack_from("=I", data, at)
                struct.pack_into("=I", data, at, old + rng.choice((-4, -1, 1, 4, 12)) & 0xFFFFFFFF)
            case 5:  # names
                if strings < len(data):
                    at = rng.randrange(strings, len(data))
                    data[at : at + rng.choice((1, 1, 8))] = rng.choice((b"\0", b"x", b"\xff", b"sk_buff\0"))
            case 6:  # two words of types change places
                a, b = (word_at(rng, data, types, type_len) for _ in range(2))
                data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]
            case 7:  # a count or a kind
                at = word_at(rng, data, types, type_len)
                info = (
                    rng.choice((*KINDS.values(), 0, 20, 21, 22, 127)) << 24
                    | rng.choice((0, 1, 2, 100, 0xFFFF, 0xFFFFFF))
                    | rng.getrandbits(1) << 31
                )
                struct.pack_into("=I", data, at, info)
            case 8:  # a reference, to itself perhaps
                at = word_at(rng, data, types, type_len)
                struct.pack_into("=I", data, at, rng.choice((*NUMBERS, rng.randrange(64), rng.randrange(2000))))
            case 9:  # a stretch of it again
                start, length = rng.randrange(len(data)), rng.choice((4, 12, 100))
                at = rng.randrange(len(data))
                data[at : at + length] = data[start : start + length]
            case 10 if types + type_len < strings <= len(data):  # sizes in the layout table
                data[rng.randrange(types + type_len, strings)] = rng.choice((0, 1, 4, 12, 252, 255))
    return bytes(data)


def size_of_header(size: int) -> int:
    return LONG_HEADER if size >= LONG_HEADER else HEADER.size


def word_at(rng: Random, data: bytearray, start: int, length: int) -> int:
    end = min(start + length, len(data))
    return rng.randrange(start, end - 3, 4) if 0 <= start < end - 4 else 0


def ask(found: Btf, rng: Random) -> None:
    """All that somebody may want to know; what is damaged is told again each time."""

    def answer(question: Callable[..., object], *arguments: object) -> object:
        try:
            return question(*arguments)
        except PwruError as error:
            assert "\n" not in str(error)  # noqa: PT017
            return None

    count = answer(lambda: found.count) or 1
    assert isinstance(count, int)
    answer(functions, found, "sk_buff")
    answer(tracepoints, found, "sk_buff")
    answer(found.enumerators)
    for name in ("sk_buff", "skb_drop_reason", "outer", "event", "SKB_CONSUMED", "", "ip_rcv"):
        answer(found.struct, name)
        answer(found.enum, name)
        answer(found.enumerator, name)
        answer(found.find, name, btf.FUNC, btf.STRUCT)
    for type_id in (0, 1, 2, *(rng.randrange(count) for _ in range(12)), count, 0xFFFFFFFF):
        kind = getattr(answer(found.type, type_id), "kind", None)
        if kind in (btf.STRUCT, btf.UNION):
            answer(lambda: found.layout(found.type(type_id).id))  # noqa: B023
        elif kind == btf.FUNC:
            answer(no_trampoline, found, type_id)


@cases
@given(st.integers(0, 2**64))
def test_damaged_btf(seed: int) -> None:
    rng = Random(seed)
    original, base = rng.choice(originals())
    with bounded():
        ask(Btf(damaged(rng, original), base), rng)


@pytest.mark.skipif(not os.path.exists(VMLINUX), reason="the kernel has no BTF")
@settings(cases, max_examples=max(1, CASES // 500))
@given(st.integers(0, 2**64))
def test_damaged_vmlinux(seed: int) -> None:
    """A case takes a tenth of a second, so there are few of them."""
    rng = Random(seed)
    with bounded():
        ask(Btf(damaged(rng, Path(VMLINUX).read_bytes())), rng)


@cases
@given(st.integers(0, 2**64))
def test_damaged_elf(seed: int) -> None:
    rng = Random(seed)
    data = bytearray((DATA / "sample.elf").read_bytes())
    for _ in range(rng.choice((1, 3, 10))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    del data[rng.randrange(64, 10 * len(data)) :]
    data[:4] = b"\x7fELF"
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        with bounded():
            ask(read_btf(file.name), rng)
