"""Conditions and values mean what C means by them, run here and in this machine's kernel."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pwru.errors import PwruError
from pwru.filter.expression import SKB, compile_condition, compile_value
from pwru.filter.expression.fields import KernelFields
from pwru.filter.expression.parse import parse_field
from pwru.filter.expression.recorded import Condition
from pwru.filter.expression.tree import CType
from pwru.filter.load import RdonlyCast
from pwru.record.parts import Field
from tests.unit.filter import interpreter, skbs
from tests.unit.filter.conditions import Conditions, verdict

CASTS = [None, RdonlyCast(kfunc_id=0x1234, struct_id=0x5678)]


@pytest.fixture
def memory() -> skbs.Memory:
    memory = skbs.Memory(Random(1))
    memory.at(0xFFFF888000001000)
    return memory


def set_fields(memory: skbs.Memory, **values: int) -> int:
    """Give the first skb these fields; return the skb."""
    for name, value in values.items():
        memory.store(next(field for field in skbs.FIELDS if field.text == f"skb->{name}"), skbs.SKBS[0], value)
    return skbs.SKBS[0]


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("skb->len > 1000 && !(skb->mark & 0xff)", {"len": 1001, "mark": 0xF00}, True),
        ("skb->len > 1000 && !(skb->mark & 0xff)", {"len": 1000, "mark": 0xF00}, False),
        ("skb->len > 1000 && !(skb->mark & 0xff)", {"len": 1001, "mark": 0xF01}, False),
        # precedence
        ("skb->mark & 0xff == 0x34", {"mark": 0x1234}, True),
        ("0x34 == skb->mark & 0xff", {"mark": 0x1234}, True),
        ("skb->len == 1 || skb->len == 2 && skb->mark == 3", {"len": 1, "mark": 0}, True),
        ("(skb->len == 1 || skb->len == 2) && skb->mark == 3", {"len": 1, "mark": 0}, False),
        ("!skb->cloned && skb->len", {"cloned": 1, "len": 0}, False),
        ("!(skb->cloned && skb->len)", {"cloned": 1, "len": 0}, True),
        ("!!skb->len", {"len": 4}, True),
        # signs
        ("skb->err < 0", {"err": -1}, True),
        ("skb->err > -2", {"err": -1}, True),
        ("skb->err == 0xffffffff", {"err": -1}, True),
        ("skb->err < 0xfffffff0", {"err": -1}, False),
        ("skb->len == -1", {"len": 0xFFFFFFFF}, True),
        ("skb->s64 == -4294967295", {"s64": -4294967295}, True),  # 32 bits in decimal are long
        ("skb->s64 == -0xffffffff", {"s64": 1}, True),  # and unsigned int in hex
        ("skb->len > 0x7fffffff", {"len": 0x80000000}, True),
        ("skb->len < -1", {"len": 5}, True),
        ("skb->s8 < skb->u8", {"s8": -1, "u8": 0}, True),  # both are int then
        ("skb->err < skb->len", {"err": -1, "len": 0}, False),  # both are unsigned then
        ("skb->err == skb->len", {"err": -1, "len": 0xFFFFFFFF}, True),
        ("skb->s64 == skb->len", {"s64": -1, "len": 0xFFFFFFFF}, False),
        ("skb->s64 < skb->u64", {"s64": -1, "u64": 0}, False),
        ("skb->u64 == 0xffffffffffffffff", {"u64": -1}, True),
        ("skb->u64 == -1", {"u64": -1}, True),
        ("skb->s16 & 0x8000", {"s16": -0x8000}, True),
        ("skb->nibble == -8", {"nibble": -8}, True),
        # bitfields
        ("skb->pkt_type == 5 && skb->cloned", {"pkt_type": 5, "cloned": 1}, True),
        ("skb->cloned", {"pkt_type": 7, "cloned": 0}, False),
        ("skb->eleven == 0x7fe", {"eleven": 0x7FE}, True),
        ("skb->deep == 0xabcdef0123", {"deep": 0xABCDEF0123}, True),
        # names, numbers, arrays
        ("skb->state == LISTEN", {"state": 10}, True),
        ("LISTEN == skb->state", {"state": 7}, False),
        ("skb->sstate == MINUS", {"sstate": -2}, True),
        ("skb->next == NULL", {"next": 0}, True),
        ("NULL != skb->next", {"next": 0}, False),
        ("skb->next == 0", {"next": 1}, False),
        ("skb->len == 010 && skb->len == 0x8", {"len": 8}, True),
        ("skb->mark & ~0xff == 0x100", {"mark": 0x1FF}, True),
        ("skb -> cb [ 47 ] == - 3", {"cb[47]": -3}, True),
        ("skb->hdr.c[1][2] > 0", {"hdr.c[1][2]": 1}, True),
        ("skb->offload == 9", {"mark": 9}, True),
        # parentheses
        ("skb->len == (3)", {"len": 3}, True),
        ("(skb->len & (0xf0 & 0x3f)) == 0x10", {"len": 0x90}, True),
    ],
)
def test_meaning(memory: skbs.Memory, text: str, values: dict[str, int], expected: bool) -> None:
    skb = set_fields(memory, **values)
    assert [verdict(text, memory, skb, cast) for cast in CASTS] == [expected] * 2


@pytest.mark.parametrize("pointer", [0, 8, 0x7FFF00000000, 0xDEAD000000000100, (1 << 64) - 1])
def test_a_bad_pointer_reads_0(memory: skbs.Memory, pointer: int) -> None:
    skb = set_fields(memory, dev=pointer)
    for text in ("skb->dev->ifindex == 0", "!skb->dev->next->mtu", "!skb->dev[1].ifindex"):
        assert all(verdict(text, memory, skb, cast) for cast in CASTS)


def test_a_bitfield_is_read_in_one_piece_of_its_page(memory: skbs.Memory) -> None:
    for name in ("pkt_type", "nibble", "eleven", "most", "deep"):
        code, _ = compile_value(f"skb->{name}", skbs.btf(), None)
        reads: list[tuple[int, int]] = []

        def read(address: int, size: int, reads: list[tuple[int, int]] = reads) -> bytes:
            reads.append((address, size))
            return bytes(size)

        interpreter.run(code, 0x1000, read)
        ((address, size),) = reads
        assert address % size == 0


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.randoms(use_true_random=False))
def test_random_conditions(rng: Random) -> None:
    text, truth = skbs.condition(rng)
    memory = skbs.Memory(Random(rng.getrandbits(32)))
    memory.at(0xFFFF888000001000)
    for cast in CASTS:
        try:
            code = compile_condition(text, skbs.btf(), cast)
        except PwruError as error:
            assume(not re.search("cannot be|the same for every packet", str(error)))
            raise
        for skb in skbs.SKBS:
            got = interpreter.run(code, memory.address + skb, memory.read)
            assert got == truth(memory, skb), text


def recorded(text: str) -> Condition:
    """Return the condition on the fields of a recording that has all of them."""
    return Condition(text, {field.text: CType(field.bits, field.signed) for field in skbs.FIELDS})


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.randoms(use_true_random=False))
def test_random_conditions_on_a_recording(rng: Random) -> None:
    text, truth = skbs.condition(rng)
    for name, value in skbs.CONSTANTS.items():
        text = re.sub(rf"\b{name}\b", hex(value) if value >= 0 else str(value), text)
    memory = skbs.Memory(Random(rng.getrandbits(32)))
    memory.at(0xFFFF888000001000)
    try:
        condition = recorded(text)
    except PwruError as error:
        assume(not re.search("cannot be|the same for every packet", str(error)))
        raise
    for skb in skbs.SKBS:
        # As they are recorded: 64 bits.
        values = {field.text: memory.field(field, skb) & interpreter.U64 for field in skbs.FIELDS}
        assert condition.holds(values) == truth(memory, skb), text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skb->len > 1 && skb->hash", "column 17: 'skb->hash' was not recorded: `skb_metadata` must name it when"),
        ("skb->dev == 0 && skb", "column 18: `skb` alone is no field"),
        ("skb->state == LISTEN", "column 15: 'LISTEN' is no field, and a recording has no constants"),
        ("skb->u8 == 256", "column 12: `skb->u8` (8 bits, unsigned) cannot be 256"),
        ("skb->", "column 6: expected a member of `skb`, found end of input"),
    ],
)
def test_mistakes_about_a_recording(text: str, message: str) -> None:
    with pytest.raises(PwruError, match=re.escape(f"`skb_expr`: {message}")):
        recorded(text)


# --- values ---


@pytest.mark.parametrize("cast", CASTS)
def test_values(memory: skbs.Memory, cast: RdonlyCast | None) -> None:
    for field in skbs.FIELDS:
        code, value = compile_value(f" {field.text} ", skbs.btf(), cast)
        assert (value.name, value.signed) == (field.text, field.signed)
        for skb in skbs.SKBS:
            expected = memory.field(field, skb) & interpreter.U64
            assert interpreter.run(code, memory.address + skb, memory.read) == expected


def test_what_is_said_of_a_value() -> None:
    for text, size, signed in (("skb->len", 4, False), ("skb->s8", 1, True), ("skb->destructor", 8, False)):
        assert compile_value(text, skbs.btf(), None)[1] == Field(text, signed, "skb", 8 * size)
        assert parse_field(text, KernelFields(skbs.btf(), SKB)).size.nbytes == size
    assert compile_value("skb -> cb [ 0x2 ]", skbs.btf(), None)[1].name == "skb->cb[2]"


class TestConditions(Conditions):
    """In the kernel of this machine; tests/kernel/test_skb_expr.py runs the same tests in guests."""
