"""Conditions on fields mean what C means by them, run here and in this machine's kernel, and what is wrong is told.

PWRU_FILTER_SEED repeats a run of the random conditions in the kernel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pwru.errors import PwruError
from pwru.filter.expression import Field, compile_condition, compile_value
from pwru.filter.load import RdonlyCast
from pwru.kernel.btf import VMLINUX, Btf, vmlinux_btf
from tests.unit.filter import harness, interpreter, skbs
from tests.unit.kernel.btf_writer import Writer

SEED = int(os.environ.get("PWRU_FILTER_SEED", Random().randrange(1 << 32)))
CASTS = [None, RdonlyCast(kfunc_id=0x1234, struct_id=0x5678)]
NAME = "`skb_expr`"


def refusal(text: str) -> str:
    with pytest.raises(PwruError) as caught:
        compile_condition(text, skbs.btf(), None)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert "\n" not in message
    assert len(message) < 300
    return message.removeprefix(f"{NAME}: ")


def verdict(text: str, memory: skbs.Memory, skb: int, cast: RdonlyCast | None = None) -> bool:
    result = interpreter.run(compile_condition(text, skbs.btf(), cast), memory.address + skb, memory.read)
    assert result in (0, 1)
    return result == 1


@pytest.fixture
def memory() -> skbs.Memory:
    found = skbs.Memory(Random(1))
    found.at(0xFFFF888000001000)
    return found


# --- meaning ---


def a_skb(memory: skbs.Memory, **values: int) -> int:
    """The first skb, with these fields."""
    data = memory._data
    for name, value in values.items():
        field = next(field for field in skbs.FIELDS if field.text == f"skb->{name}")
        at = skbs.SKBS[0] + field.first // 8
        old = int.from_bytes(data[at : at + 9], "little")
        mask = (1 << field.bits) - 1 << field.first % 8
        new = old & ~mask | (value << field.first % 8 & mask)
        data[at : at + 9] = new.to_bytes(9, "little")
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
        ("1", {}, True),
        ("0", {}, False),
        ("0xf0 & 0x0f", {}, False),
    ],
)
def test_meaning(memory: skbs.Memory, text: str, values: dict[str, int], expected: bool) -> None:
    skb = a_skb(memory, **values)
    assert [verdict(text, memory, skb, cast) for cast in CASTS] == [expected] * 2


@pytest.mark.parametrize("pointer", [0, 8, 0x7FFF00000000, 0xDEAD000000000100, (1 << 64) - 1])
def test_a_bad_pointer_reads_0(memory: skbs.Memory, pointer: int) -> None:
    skb = a_skb(memory, dev=pointer)
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
            assume("cannot be" not in str(error))
            raise
        for skb in skbs.SKBS:
            got = interpreter.run(code, memory.address + skb, memory.read)
            assert got == truth(memory, skb), text


# --- in the kernel ---


@pytest.fixture(scope="module")
def image() -> bytes:
    if reason := harness.permitted():
        pytest.skip(reason)
    return harness.harness_image()


@pytest.fixture(params=["helper", "cast"], scope="module")
def cast(request: pytest.FixtureRequest, image: bytes) -> RdonlyCast | None:
    if request.param == "helper":
        return None
    found = harness.cast_of_this_kernel()
    if not found:
        pytest.skip("this kernel has no bpf_rdonly_cast()")
    return found


def possible(rng: Random) -> Iterator[tuple[str, skbs.Truth]]:
    while True:
        text, truth = skbs.condition(rng)
        try:
            compile_condition(text, skbs.btf(), None)
        except PwruError as error:
            assert "cannot be" in str(error)  # noqa: PT017
        else:
            yield text, truth


def test_conditions_in_the_kernel(image: bytes, cast: RdonlyCast | None) -> None:
    rng = Random(SEED)
    conditions = possible(rng)
    true = total = 0
    for _ in range(40):
        text, truth = next(conditions)
        memory = skbs.Memory(rng)
        code = {"filter_skb": compile_condition(text, skbs.btf(), cast)}
        results = harness.run_expression(image, code, skbs.SKBS, memory.at)
        expected = [truth(memory, skb) for skb in skbs.SKBS]
        assert [match for match, _ in results] == expected, f"PWRU_FILTER_SEED={SEED} {text}"
        true += sum(expected)
        total += len(expected)
    assert 0.1 * total < true < 0.9 * total


def test_values_in_the_kernel(image: bytes, cast: RdonlyCast | None) -> None:
    memory = skbs.Memory(Random(SEED))
    for field in skbs.FIELDS:
        code, _ = compile_value(field.text, skbs.btf(), cast)
        results = harness.run_expression(image, {"value_skb": code}, skbs.SKBS, memory.at)
        expected = [memory.field(field, skb) & interpreter.U64 for skb in skbs.SKBS]
        assert [value for _, value in results] == expected, f"PWRU_FILTER_SEED={SEED} {field.text}"


def test_a_long_condition_in_the_kernel(image: bytes, cast: RdonlyCast | None) -> None:
    """As long as it may be: the verifier follows it, and jumps reach its end."""
    text = " || ".join(f"skb->dev->next->mtu & {n:#x} == {n}" for n in range(1, 10000))
    text = text[: text.rindex(" ||", 0, 4096)]
    memory = skbs.Memory(Random(SEED))
    code = {"filter_skb": compile_condition(text, skbs.btf(), cast)}
    results = harness.run_expression(image, code, skbs.SKBS, memory.at)
    assert [match for match, _ in results] == [verdict(text, memory, skb) for skb in skbs.SKBS]


def test_the_deepest_condition_in_the_kernel(image: bytes, cast: RdonlyCast | None) -> None:
    text = "skb->len"
    for _ in range(14):
        text = f"skb->u64 & ({text})"
    memory = skbs.Memory(Random(SEED))
    code = {"filter_skb": compile_condition(text, skbs.btf(), cast)}
    results = harness.run_expression(image, code, skbs.SKBS, memory.at)
    assert [match for match, _ in results] == [verdict(text, memory, skb) for skb in skbs.SKBS]


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
        assert compile_value(text, skbs.btf(), None)[1] == Field(text, size, signed)
    assert compile_value("skb -> cb [ 0x2 ]", skbs.btf(), None)[1].name == "skb->cb[2]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skb->len > 1", "column 10: expected an operator or end of input, found '>'"),
        ("LISTEN", "column 1: expected `skb->`, found 'LISTEN'"),
        ("(skb->len)", "column 1: expected `skb->`, found '('"),
        ("", "it is empty; an example: skb->len > 1000"),
    ],
)
def test_what_is_no_single_field(text: str, message: str) -> None:
    with pytest.raises(PwruError, match=re.escape(f"`skb_metadata`: {message}")):
        compile_value(text, skbs.btf(), None)


# --- what is wrong ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; an example: skb->len > 1000"),
        (" \n\t", "it is empty; an example: skb->len > 1000"),
        # names
        ("skb->mrak == 1", "column 6: struct sk_buff has no member 'mrak'; did you mean mark?"),
        ("skb->hdr.xyzzy", "column 10: struct hdr has no member 'xyzzy'"),
        ("len > 1", "column 1: 'len' is a member of the skb: write skb->len"),
        ("skb->state == LISTN", "column 15: 'LISTN' is neither `skb` nor a constant […] did you mean LISTEN?"),
        ("sbk->len", "column 1: 'sbk' is neither `skb` nor a constant […] did you mean skb?"),
        ("TWICE", "column 1: 'TWICE' is several constants of this kernel (1, 2): write the number"),
        # the way to a field
        ("skb.len", "column 4: `skb` is a pointer: use `->`"),
        ("skb->dev.mtu", "column 9: `skb->dev` is a pointer: use `->`"),
        ("skb->hdr->a", "column 9: `skb->hdr` is struct hdr: use `.` and a member"),
        ("skb->hdr[0]", "column 9: `skb->hdr` is struct hdr: use `.` and a member"),
        ("skb->cb->x", "column 8: `skb->cb` is an array: say which element, as in skb->cb[0]"),
        ("skb->len.x", "column 9: `skb->len` is a number, nothing is in it"),
        ("skb->len[0]", "column 9: `skb->len` is a number, nothing is in it"),
        ("skb->dev->nothing->x", "column 18: `skb->dev->nothing` is a pointer to void, of which no members are known"),
        ("skb->dev->nothing[1]", "column 18: `skb->dev->nothing` is a pointer to void, whose size is not known"),
        ("skb->dev->absent->x", "column 17: […] is a pointer to struct absent, of which no members are known"),
        ("skb->dev->numbers->x", "column 18: […] is a pointer to unsigned int, of which no members are known"),
        ("skb->", "column 6: expected a member of struct sk_buff, found end of input"),
        ("skb->5", "column 6: expected a member of struct sk_buff, found '5'"),
        # indexes
        ("skb->cb[48]", "column 9: `skb->cb` has 48 elements, the last is [47]"),
        ("skb->hdr.c[1][3]", "column 15: `skb->hdr.c[1]` has 3 elements, the last is [2]"),
        ("skb->cb[skb->len]", "column 9: expected a number, found 'skb'"),
        ("skb->cb[-1]", "column 9: expected a number, found '-'"),
        ("skb->cb[1", "column 10: expected `]`, found end of input"),
        ("skb->rest[0x7fffffff]", "column 10: that is too far away"),
        # values
        ("skb", "column 1: `skb` alone is no field: name a member, as in skb->len"),
        ("1 == skb->cb", "column 6: `skb->cb` is an array: say which element, as in skb->cb[0]"),
        ("skb->hdr.c[0]", "column 1: `skb->hdr.c[0]` is an array: say which element, as in skb->hdr.c[0][0]"),
        ("skb->hdr == 1", "column 1: `skb->hdr` is struct hdr: name a member of it"),
        ("skb->wide == 1", "column 1: `skb->wide` has 16 bytes, and only 8 can be read"),
        ("skb->real == 1", "column 1: `skb->real` is double, which cannot be compared"),
        # numbers
        ("skb->len == 09", "column 13: '09' is not a number: they are decimal, 0x… or octal with a leading 0"),
        ("skb->len == 0x", "column 13: '0x' is not a number"),
        ("skb->len == 1k", "column 13: '1k' is not a number"),
        ("skb->len == 0x10000000000000000", "column 13: '0x10000000000000000' has more than 64 bits"),
        ("skb->pkt_type == 8", "column 18: `skb->pkt_type` (3 bits, unsigned) cannot be 8"),
        ("-1 == skb->u16", "[…] `skb->u16` (16 bits, unsigned) cannot be -1"),
        ("skb->s8 == 0xff", "column 12: `skb->s8` (8 bits, signed) cannot be 255"),
        ("skb->len < 0x100000000", "column 12: `skb->len` (32 bits, unsigned) cannot be 4294967296"),
        # grammar
        ("skb->len ==", "column 12: expected a field, a number or `(`, found end of input"),
        ("skb->len == )", "column 13: expected a field, a number or `(`, found ')'"),
        ("(skb->len", "column 10: expected `)`, found end of input"),
        ("skb->len)", "column 9: expected an operator or end of input, found ')'"),
        ("skb->len 5", "column 10: expected an operator or end of input, found '5'"),
        ("skb->len = 5", "column 10: to compare, write `==`"),
        ("skb->len | 5", "column 10: expected an operator or end of input, found '|'"),
        ("skb->len == 'a'", 'column 13: expected a field, a number or `(`, found "\'"'),
        ("skb->len && && 1", "column 13: expected a field, a number or `(`, found '&&'"),
        ("1 < skb->len < 9", "column 14: comparisons cannot be chained; join two of them with && before `<`"),
        ("!skb->len == 1", "column 1: this is true or false, but `==` takes numbers; […]"),
        ("1 == (skb->len == 1)", "column 6: this is true or false, but `==` takes numbers; […]"),
        ("skb->len & !skb->mark", "column 12: this is true or false, but `&` takes numbers; […]"),
        ("-skb->len", "column 2: expected a number, found 'skb'"),
        ("skb->len == \x1b[31m", r"column 13: expected a field, a number or `(`, found '\x1b'"),
        # limits
        ("(" * 17 + "1" + ")" * 17, "column 17: it is nested more than 16 deep"),
        ("!" * 3000 + "1", "column 17: it is nested more than 16 deep"),
        ("1" * 4000, f"column 1: '{'1' * 40}…' has more than 64 bits"),
        ("1" + " || 1" * 1000, "it has 5001 characters, 4096 are possible"),
    ],
)
def test_what_is_wrong(text: str, message: str) -> None:
    """`[…]` stands for anything."""
    assert re.match(".*".join(map(re.escape, message.split("[…]"))), refusal(text)), refusal(text)


def test_a_kernel_without_skbs() -> None:
    with pytest.raises(PwruError, match="column 1: this kernel's BTF has no struct sk_buff"):
        compile_condition("skb->len", Btf(Writer().data()), None)


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    *"()[]!&<>=.-~|",
                    "->",
                    "==",
                    "&&",
                    "||",
                    "skb",
                    "->len",
                    "->dev",
                    "->next",
                    "->cb",
                    "1",
                    "0x",
                    "LISTEN",
                ]
            ),
            max_size=30,
        ).map("".join),
    )
)
def test_whatever_is_typed(text: str) -> None:
    try:
        code = compile_condition(text, skbs.btf(), None)
    except PwruError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert code


@pytest.mark.parametrize("part", [" || 1", " && skb->len", " & skb->len", "->next", "[0]"])
def test_as_long_as_it_may_be(part: str) -> None:
    """Nothing recurses to death."""
    text = "skb->next" + part * ((4096 - 9) // len(part))
    try:
        assert compile_condition(text, skbs.btf(), None)
    except PwruError as error:
        assert part == "[0]"
        assert "`skb->next[0]` is" in str(error)  # noqa: PT017


# --- this machine's kernel ---


@pytest.mark.skipif(not os.path.exists(VMLINUX), reason="the kernel has no BTF")
@pytest.mark.parametrize(
    "text",
    [
        "skb->dev->ifindex == 1",
        "skb->pkt_type == 3 && !skb->cloned || skb->ip_summed != 0",
        "skb->sk->__sk_common.skc_state == TCP_LISTEN",
        "skb->dev->nd_net.net->ns.inum == 4026531840",
        "skb->users.refs.counter > 1 && skb->cb[3] & 1 == 0",
        "skb->dev->name[0] == 0x6c && skb->data[0] & 0xf0 == 0x40",
    ],
)
def test_fields_that_kernels_have(image: bytes, cast: RdonlyCast | None, text: str) -> None:
    """The kernel takes the code; here is no skb to look at but one of zeros."""
    code = compile_condition(text, vmlinux_btf(), cast)
    ((match, _),) = harness.run_expression(image, {"filter_skb": code}, [1024], lambda _: bytes(harness.SKBS_SIZE))
    assert match == interpreter.run(code, 0, lambda _, size: bytes(size))
