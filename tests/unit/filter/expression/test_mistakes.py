"""A mistake in a condition or a field is reported with its column."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwru.errors import PwruError
from pwru.filter.expression import XDP, compile_condition, compile_value
from pwru.kernel.btf import Btf
from pwru.record.parts import Field
from tests.unit.filter import skbs
from tests.unit.kernel.btf_writer import Writer

NAME = "`skb_expr`"


def refusal(text: str) -> str:
    with pytest.raises(PwruError) as caught:
        compile_condition(text, skbs.btf(), None)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert "\n" not in message
    assert len(message) < 300
    return message.removeprefix(f"{NAME}: ")


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
        ("skb->len == 1_0", "column 13: '1_0' is not a number"),
        ("skb->len == 0b11", "column 13: '0b11' is not a number"),
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
        # the same for every packet
        ("1 == 1", "column 1: this is the same for every packet: it has no field"),
        ("0", "column 1: this is the same for every packet"),
        ("(0xf0 & 0x0f)", "column 1: this is the same for every packet"),
        ("skb->len > 3 && 1", "column 17: this is the same for every packet"),
        ("(0 & (1 & 2)) < 3 || skb->len", "column 1: this is the same for every packet"),
        ("skb->len && (skb->mark || !NULL)", "column 28: this is the same for every packet"),
        ("!(LISTEN)", "column 2: this is the same for every packet"),
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


@pytest.mark.parametrize("part", [" || skb->len", " && skb->len", " & skb->len", "->next", "[0]"])
def test_as_long_as_it_may_be(part: str) -> None:
    """Nothing recurses to death."""
    text = "skb->next" + part * ((4096 - 9) // len(part))
    try:
        assert compile_condition(text, skbs.btf(), None)
    except PwruError as error:
        assert part == "[0]"
        assert "`skb->next[0]` is" in str(error)  # noqa: PT017


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


def frames() -> Btf:
    w = Writer()
    u32 = w.integer("unsigned int", 4)
    info = w.struct("xdp_rxq_info", 16, ("queue_index", u32, 64))
    w.struct("xdp_buff", 16, ("rxq", w.ref("PTR", info), 0), ("frame_sz", u32, 64))
    return Btf(w.data())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; an example: xdp->rxq->queue_index == 0"),
        ("xdp->rxq->queue", "column 11: struct xdp_rxq_info has no member 'queue'; did you mean queue_index?"),
        ("skb->len > 1", "column 1: 'skb' is neither `xdp` nor a constant of an enum of this kernel"),
        ("frame_sz > 1", "column 1: 'frame_sz' is a member of the xdp: write xdp->frame_sz"),
        ("xdp == 0", "column 1: `xdp` alone is no field: name a member, as in xdp->rxq->queue_index"),
    ],
)
def test_frames_of_xdp(text: str, message: str) -> None:
    with pytest.raises(PwruError) as caught:
        compile_condition(text, frames(), None, XDP)
    assert str(caught.value).startswith(f"`xdp_expr`: {message}")
    with pytest.raises(PwruError, match="`xdp_metadata`: column 1: expected `xdp->`, found 'skb'"):
        compile_value("skb->len", frames(), None, XDP)
    field = compile_value("xdp->rxq->queue_index", frames(), None, XDP)[1]
    assert field == Field("xdp->rxq->queue_index", False, "xdp", 32)


def test_a_kernel_without_xdp() -> None:
    with pytest.raises(PwruError, match="`xdp_expr`: column 1: this kernel's BTF has no struct xdp_buff"):
        compile_condition("xdp->frame_sz > 1", skbs.btf(), None, XDP)
