"""Programs of classic BPF whose jumps are longer than struct bpf_insn can have them: libpcap runs them all the same."""

from __future__ import annotations

import pytest

from pwru.filter.packet import Filter, Insn
from pwru.filter.packet.classic import within_reach
from pwru.filter.packet.pcap import compile_filter, runner

LOAD, EQUALS, NOTHING, RETURN = 0x30, 0x15, 0x01, 0x06  # ldb [k], jeq #k, ldx #k, ret #k


@pytest.mark.parametrize("distance", [0, 254, 255, 256, 257, 600])
@pytest.mark.parametrize("other", [0, 1, 255, 256])
def test_long_jumps(distance: int, other: int) -> None:
    """Over this many instructions each, one after the other, and from within one another."""
    filler = [Insn(NOTHING, 0, 0, 0)]
    insns = [
        Insn(LOAD, 0, 0, 0),
        Insn(EQUALS, distance + 2, 0, 7),
        Insn(EQUALS, 0, distance + 1 + other, 8),
        *filler * distance,
        Insn(RETURN, 0, 0, 1),
        *filler * other,
        Insn(RETURN, 0, 0, 0),
    ]
    insns[1] = insns[1]._replace(jt=distance + 2 + other)
    short = within_reach(insns)
    assert all(max(insn.jt, insn.jf) <= 255 for insn in short)
    run = runner(insns)
    assert [run(bytes([first]), 1) for first in (7, 8, 9)] == [False, True, False]


def test_what_is_short_stays_as_it_is() -> None:
    insns = compile_filter(Filter("tcp port 80 or udp")).l2
    assert within_reach(insns) == list(insns)


def test_a_port_behind_extension_headers() -> None:
    ethernet, udp = bytes(12) + b"\x86\xdd", (5).to_bytes(2, "big") + (5000).to_bytes(2, "big") + bytes(4)
    options = bytes([17, 0]) + bytes(6)
    packet = ethernet + bytes([0x60, 0, 0, 0, 0, 16, 0, 64]) + bytes(32) + options + udp
    for port, passes in ((5000, True), (5001, False)):
        run = runner(compile_filter(Filter(primitives=(f"dst port {port}",))).l2)
        assert run(packet, len(packet)) is passes
