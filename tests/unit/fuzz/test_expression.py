"""Conditions on fields of the skb, of words that are none, nearly right or right, for the kernel that runs here."""

from __future__ import annotations

import os
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwru.filter.expression import SKB, compile_condition, compile_value
from pwru.filter.expression.fields import KernelFields
from pwru.filter.expression.parse import parse_field
from pwru.filter.load import RdonlyCast
from pwru.kernel.btf import VMLINUX, Btf, vmlinux_btf
from tests.unit.filter import interpreter

from .limits import bounded, cases

pytestmark = pytest.mark.skipif(not os.path.exists(VMLINUX), reason="the kernel has no BTF")

CASTS = (None, RdonlyCast(kfunc_id=0x1234, struct_id=0x5678))
FIELDS = [
    *("skb->len", "skb->mark", "skb->dev", "skb->dev->ifindex", "skb->dev->name[0]", "skb->sk->__sk_common.skc_state"),
    *("skb->cb[47]", "skb->pkt_type", "skb->cloned", "skb->dev->nd_net.net->ns.inum", "skb->users.refs.counter"),
    *("skb->data", "skb->head", "skb->next->prev->len", "skb->tstamp", "skb->dev->operstate", "skb->_skb_refdst"),
    *("skb->headers", "skb->cb", "skb->rbnode", "skb->sk->sk_socket->file->f_inode->i_ino", "skb->dev->dev_addr[5]"),
]
WORDS = [
    *(*"()[]!&|<>=.-~+*/%^,;:'\"\\$@#?", "->", "==", "!=", "<=", ">=", "&&", "||", "<<", "++", "skb", "skb->", "xdp->"),
    *("len", "mark", "dev", "next", "sk", "cb", "NULL", "TCP_LISTEN", "SKB_CONSUMED", "SKB_DROP_REASON_NO_SOCKET", "x"),
    *("0", "1", "-1", "47", "48", "010", "09", "0x", "0xff", "0x7fffffff", "4294967296", "0xffffffffffffffff", "1k"),
    *(
        "18446744073709551616",
        "[0]",
        "[1]",
        "[2147483647]",
        "[99999999999]",
        " ",
        "\t",
        "\n",
        "\0",
        "\x1b[31m",
        "ä",
        "\udcff",
    ),
]

number = st.one_of(st.sampled_from(["0", "1", "0xff", "-1", "~0", "NULL"]), st.integers(-(2**64), 2**64).map(str))
member = st.lists(st.sampled_from(["->next", "->dev", "->sk", "->len", "->cb", "[0]", ".x", "->data"]), max_size=6)
field = st.one_of(st.sampled_from(FIELDS), member.map(lambda members: "skb" + "".join(members)))
operand = st.one_of(field, number, st.tuples(field, number).map(lambda pair: f"{pair[0]} & {pair[1]}"))
comparison = st.one_of(
    operand,
    st.tuples(operand, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), operand).map(" ".join),
)
condition = st.recursive(
    comparison,
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, st.sampled_from([" && ", " || ", "&", "=="]), inner).map("".join),
        inner.map(lambda one: f"({one})"),
    ),
    max_leaves=8,
)
words = st.lists(st.sampled_from([*WORDS, *FIELDS]), max_size=30)
text = st.one_of(
    condition,
    words.map("".join),
    words.map(" ".join),
    st.tuples(condition, st.integers(0, 100), st.integers(0, 3), st.sampled_from(["", *WORDS])).map(
        lambda change: change[0][: change[1]] + change[3] + change[0][change[1] + change[2] :]
    ),
    st.text(max_size=60),
    st.tuples(st.sampled_from(["(", "!", "!(", "skb->len&(", *WORDS, *FIELDS]), st.integers(1, 5000)).map(
        lambda pair: pair[0] * pair[1]
    ),
)


@cache
def btf() -> Btf:
    return vmlinux_btf()


def read(address: int, size: int) -> bytes:
    """Every address has something."""
    return (address * 0x9E3779B97F4A7C15 & (1 << 8 * size) - 1).to_bytes(size, "little")


@cases
@given(text, st.sampled_from(CASTS))
def test_conditions(text: str, cast: RdonlyCast | None) -> None:
    with bounded():
        assert interpreter.run(compile_condition(text, btf(), cast), 0xFFFF888000001000, read) in (0, 1)


@cases
@given(st.one_of(field, text), st.sampled_from(CASTS))
def test_values(text: str, cast: RdonlyCast | None) -> None:
    with bounded():
        code, value = compile_value(text, btf(), cast)
        result = interpreter.run(code, 0xFFFF888000001000, read)
        size = parse_field(text, KernelFields(btf(), SKB)).size.nbytes
        assert size in (1, 2, 4, 8)
        if not value.signed:
            assert result < 1 << 8 * size
