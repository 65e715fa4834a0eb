"""Tests of conditions and values in this machine's kernel; PWRU_FILTER_SEED repeats a run of the random ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from random import Random

import pytest

from pwru.errors import PwruError
from pwru.filter.expression import compile_condition, compile_value
from pwru.filter.load import RdonlyCast
from pwru.kernel.btf import VMLINUX, vmlinux_btf

from . import harness, interpreter, skbs
from .in_kernel import InKernel

SEED = int(os.environ.get("PWRU_FILTER_SEED", Random().randrange(1 << 32)))


def verdict(text: str, memory: skbs.Memory, skb: int, cast: RdonlyCast | None = None) -> bool:
    result = interpreter.run(compile_condition(text, skbs.btf(), cast), memory.address + skb, memory.read)
    assert result in (0, 1)
    return result == 1


def possible(rng: Random) -> Iterator[tuple[str, skbs.Truth]]:
    while True:
        text, truth = skbs.condition(rng)
        try:
            compile_condition(text, skbs.btf(), None)
        except PwruError as error:
            assert re.search("cannot be|the same for every packet", str(error))  # noqa: PT017
        else:
            yield text, truth


class Conditions(InKernel):
    def test_conditions(self, image: bytes, cast: RdonlyCast | None) -> None:
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

    def test_values(self, image: bytes, cast: RdonlyCast | None) -> None:
        memory = skbs.Memory(Random(SEED))
        for field in skbs.FIELDS:
            code, _ = compile_value(field.text, skbs.btf(), cast)
            results = harness.run_expression(image, {"value_skb": code}, skbs.SKBS, memory.at)
            expected = [memory.field(field, skb) & interpreter.U64 for skb in skbs.SKBS]
            assert [value for _, value in results] == expected, f"PWRU_FILTER_SEED={SEED} {field.text}"

    def test_a_long_condition(self, image: bytes, cast: RdonlyCast | None) -> None:
        """The longest possible: the verifier follows it, and jumps reach its end."""
        text = " || ".join(f"skb->dev->next->mtu & {n:#x} == {n}" for n in range(1, 10000))
        text = text[: text.rindex(" ||", 0, 4096)]
        memory = skbs.Memory(Random(SEED))
        code = {"filter_skb": compile_condition(text, skbs.btf(), cast)}
        results = harness.run_expression(image, code, skbs.SKBS, memory.at)
        assert [match for match, _ in results] == [verdict(text, memory, skb) for skb in skbs.SKBS]

    def test_the_deepest_condition(self, image: bytes, cast: RdonlyCast | None) -> None:
        text = "skb->len"
        for _ in range(14):
            text = f"skb->u64 & ({text})"
        memory = skbs.Memory(Random(SEED))
        code = {"filter_skb": compile_condition(text, skbs.btf(), cast)}
        results = harness.run_expression(image, code, skbs.SKBS, memory.at)
        assert [match for match, _ in results] == [verdict(text, memory, skb) for skb in skbs.SKBS]

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
    def test_fields_that_kernels_have(self, image: bytes, cast: RdonlyCast | None, text: str) -> None:
        """The kernel accepts the code; the only skb to look at consists of zeros."""
        code = compile_condition(text, vmlinux_btf(), cast)
        ((match, _),) = harness.run_expression(image, {"filter_skb": code}, [1024], lambda _: bytes(harness.SKBS_SIZE))
        assert match == interpreter.run(code, 0, lambda _, size: bytes(size))
