"""Tests that run random filters on random packets: this machine's kernel agrees with libpcap's bpf_filter().

PWRU_FILTER_PAIRS: how many pairs of a filter and a packet; PWRU_FILTER_SEED: to repeat a run.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter, Insn
from pwru.filter.packet.classic import REJECT
from pwru.filter.packet.pcap import Programs, compile_filter

from . import expressions, harness, packets, programs
from .in_kernel import InKernel

SEED = int(os.environ.get("PWRU_FILTER_SEED", Random().randrange(1 << 32)))
PACKETS_PER_FILTER = 100


def compare(image: bytes, cast: RdonlyCast | None, programs: Programs, batch: harness.Batch, what: str) -> int:
    """Fail if kernel and libpcap differ on a packet; return how many packets matched."""
    kernel = batch.run(image, programs, cast)
    expected = list(zip(*(harness.libpcap_verdicts(insns, batch.packets) for insns in programs[:2]), strict=True))
    for packet, got, libpcap in zip(batch.packets, kernel, expected, strict=True):
        wanted = libpcap if packet.data else (False, False)  # nothing is left for a header
        assert got == wanted, (
            f"(l2, l3): the kernel says {got}, libpcap {libpcap}; PWRU_FILTER_SEED={SEED}\n"
            f"{what}\npacket of {packet.len} bytes, of them captured: {packet.data.hex()}"
        )
    return sum(map(any, expected))


def compile_both(expression: str) -> Programs:
    """Compile for Ethernet and for raw IP; what libpcap has no program for matches nothing."""
    compiled = compile_filter(Filter(expression))
    return compiled._replace(l3=compiled.l3 or [REJECT])


class Verdicts(InKernel):
    default_pairs = 30000

    @pytest.fixture
    def pairs(self) -> int:
        pairs = int(os.environ.get("PWRU_FILTER_PAIRS", self.default_pairs))
        print(f"PWRU_FILTER_SEED={SEED} PWRU_FILTER_PAIRS={pairs}")  # shown for a test that fails
        return pairs

    def test_expressions(self, image: bytes, cast: RdonlyCast | None, pairs: int) -> None:
        rng = Random(SEED)
        filters = compared = matches = some = refused = 0
        while compared < pairs:
            filters += 1
            real = filters <= len(expressions.REAL)
            expression = expressions.REAL[filters - 1] if real else expressions.expression(rng)
            try:
                compiled = compile_both(expression)
            except PwruError:
                assert not real, f"{expression} does not compile"
                refused += 1
                continue
            batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_PER_FILTER)])
            matched = compare(image, cast, compiled, batch, expression)
            matches += matched
            some += 0 < matched < PACKETS_PER_FILTER
            compared += PACKETS_PER_FILTER
        # The test says something only if filters tell packets apart.
        assert refused < filters * 0.3
        assert some > (filters - refused) * 0.5
        assert 0.03 * compared < matches < 0.6 * compared

    def test_programs(self, image: bytes, cast: RdonlyCast | None, pairs: int) -> None:
        rng = Random(SEED)
        matches = 0
        for _ in range(0, pairs, PACKETS_PER_FILTER):
            both = Programs(programs.program(rng), programs.program(rng))
            batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_PER_FILTER)])
            matches += compare(image, cast, both, batch, f"{both.l2}\n{both.l3}")
        assert 0.1 * pairs < matches < 0.9 * pairs

    def test_memory_is_zero_at_first(self, image: bytes, cast: RdonlyCast | None) -> None:
        """The kernel's own classic BPF does the same; some releases of libpcap leave it undefined."""
        zero = [Insn(0x60, 0, 0, 3), Insn(0x15, 0, 1, 0), Insn(0x06, 0, 0, 1), Insn(0x06, 0, 0, 0)]  # M[3] == 0
        programs = Programs(zero, [zero[0], Insn(0x16, 0, 0, 0)])  # ret A
        assert harness.Batch([packets.Packet(b"x", 1)]).run(image, programs, cast) == [(True, False)]

    def test_long_filter(self, image: bytes, cast: RdonlyCast | None) -> None:
        """Thousands of instructions: jumps are longer than 255, the limit of classic BPF's conditional jumps."""
        expression = " or ".join(f"(host 10.0.0.{n} and port {1000 + n})" for n in range(3, 120)) + " or host 10.0.0.2"
        rng = Random(SEED)
        batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_PER_FILTER)])
        assert compare(image, cast, compile_both(expression), batch, expression) > 0
