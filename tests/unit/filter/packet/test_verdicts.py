"""Translated filters say what libpcap's bpf_filter() says, in the kernel of this machine: random filters and packets.

PWRU_FILTER_PAIRS: how many pairs of a filter and a packet (default 30000); PWRU_FILTER_SEED: to repeat a run.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.filter.packet import pcap
from pwru.filter.packet.pcap import DLT_EN10MB, DLT_RAW, Insn, Programs
from tests.unit.filter import expressions, harness, packets, programs

SEED = int(os.environ.get("PWRU_FILTER_SEED", Random().randrange(1 << 32)))
PACKETS_A_FILTER = 100


@pytest.fixture(scope="module")
def pairs() -> int:
    return int(os.environ.get("PWRU_FILTER_PAIRS", "30000"))


@pytest.fixture(scope="module")
def image() -> bytes:
    if reason := harness.permitted():
        pytest.skip(reason)
    return harness.harness_image()


@pytest.fixture(params=["window", "cast"], scope="module")
def cast(request: pytest.FixtureRequest, image: bytes) -> RdonlyCast | None:
    if request.param == "window":
        return None
    found = harness.cast_of_this_kernel()
    if not found:
        pytest.skip("this kernel has no bpf_rdonly_cast()")
    return found


@pytest.fixture
def seed(pairs: int) -> int:
    print(f"PWRU_FILTER_SEED={SEED} PWRU_FILTER_PAIRS={pairs}")  # seen of a test that fails
    return SEED


def compare(
    image: bytes, cast: RdonlyCast | None, l2: list[Insn], l3: list[Insn], batch: harness.Batch, what: str
) -> int:
    """Fails where kernel and libpcap differ on a packet; how many packets matched."""
    kernel = batch.run(image, Programs(l2, l3), cast)
    expected = list(zip(*(harness.libpcap_verdicts(insns, batch.packets) for insns in (l2, l3)), strict=True))
    for packet, got, libpcap in zip(batch.packets, kernel, expected, strict=True):
        wanted = libpcap if packet.data else (False, False)  # a header at the end of the data is none
        assert got == wanted, (
            f"(l2, l3): the kernel says {got}, libpcap {libpcap}; PWRU_FILTER_SEED={SEED}\n"
            f"{what}\npacket of {packet.len} bytes, of them captured: {packet.data.hex()}"
        )
    return sum(map(any, expected))


def compile_both(expression: str) -> tuple[list[Insn], list[Insn]]:
    """For Ethernet and for raw IP, where the second may be none; PwruError if the first cannot be."""
    l2 = pcap.compile_expression(expression, DLT_EN10MB)
    try:
        return l2, pcap.compile_expression(expression, DLT_RAW)
    except PwruError:
        return l2, [Insn(0x06, 0, 0, 0)]


def test_expressions(image: bytes, cast: RdonlyCast | None, pairs: int, seed: int) -> None:
    rng = Random(seed)
    filters = compared = matches = some = refused = 0
    while compared < pairs:
        filters += 1
        expression = expressions.REAL[filters - 1] if filters <= len(expressions.REAL) else expressions.expression(rng)
        try:
            l2, l3 = compile_both(expression)
        except PwruError:
            assert filters > len(expressions.REAL), f"{expression} does not compile"
            refused += 1
            continue
        batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_A_FILTER)])
        matched = compare(image, cast, l2, l3, batch, expression)
        matches += matched
        some += 0 < matched < PACKETS_A_FILTER
        compared += PACKETS_A_FILTER
    # The test says something only if filters tell packets apart.
    assert refused < filters * 0.3
    assert some > (filters - refused) * 0.5
    assert 0.03 * compared < matches < 0.6 * compared


def test_programs(image: bytes, cast: RdonlyCast | None, pairs: int, seed: int) -> None:
    rng = Random(seed)
    matches = 0
    for _ in range(0, pairs, PACKETS_A_FILTER):
        l2, l3 = programs.program(rng), programs.program(rng)
        batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_A_FILTER)])
        matches += compare(image, cast, l2, l3, batch, f"{l2}\n{l3}")
    assert 0.1 * pairs < matches < 0.9 * pairs


def test_memory_is_zero_at_first(image: bytes, cast: RdonlyCast | None) -> None:
    """As in the kernel's own classic BPF; libpcap's has it undefined in some releases."""
    zero = [Insn(0x60, 0, 0, 3), Insn(0x15, 0, 1, 0), Insn(0x06, 0, 0, 1), Insn(0x06, 0, 0, 0)]  # M[3] == 0
    programs = Programs(zero, [zero[0], Insn(0x16, 0, 0, 0)])  # ret A
    assert harness.Batch([packets.Packet(b"x", 1)]).run(image, programs, cast) == [(True, False)]


def test_long_filter(image: bytes, cast: RdonlyCast | None, seed: int) -> None:
    """Of thousands of instructions: jumps are longer than the 255 that classic BPF's conditional ones can."""
    expression = " or ".join(f"(host 10.0.0.{n} and port {1000 + n})" for n in range(3, 120)) + " or host 10.0.0.2"
    rng = Random(seed)
    batch = harness.Batch([packets.packet(rng) for _ in range(PACKETS_A_FILTER)])
    assert compare(image, cast, *compile_both(expression), batch, expression) > 0
