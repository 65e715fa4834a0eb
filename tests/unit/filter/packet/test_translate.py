"""The translation is not only right (test_verdicts.py) but small, and refused when it is impossible."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Insn
from pwru.filter.packet.classic import REJECT
from pwru.filter.packet.pcap import DLT_EN10MB, Programs, compile_expression
from pwru.filter.packet.skb import Layout, filter_packet
from tests.unit.filter import harness

LAYOUT = Layout(network_header=184, mac_header=186, tail=188, head=200, data=208, len=112)
CAST = RdonlyCast(kfunc_id=0x1234, struct_id=0x5678)
ACCEPT = Insn(0x06, 0, 0, 1)
PROBE_READ_KERNEL = bytes.fromhex("8500000071000000")
CALL_CAST = bytes.fromhex("8520000034120000")


def insns(code: bytes) -> list[bytes]:
    return [code[at : at + 8] for at in range(0, len(code), 8)]


def translate(l2: Sequence[Insn], cast: RdonlyCast | None) -> bytes:
    """Translate a program that rejects packets without a link-layer header."""
    return filter_packet(Programs(l2, [REJECT]), LAYOUT, cast, max_tags=harness.max_tags())


def test_window_serves_all_constant_offsets() -> None:
    code = insns(translate(compile_expression("host 1.1.1.1", DLT_EN10MB), None))
    assert code.count(PROBE_READ_KERNEL) == 2  # the other one: the fields of the skb


def test_window_is_no_larger_than_needed() -> None:
    code = insns(translate(compile_expression("host 1.1.1.1", DLT_EN10MB), None))
    # Ethernet type at 12 to the end of ARP's target address at 42
    assert bytes.fromhex("b40200001e000000") in code  # w2 = 30
    assert bytes.fromhex("070300000c000000") in code  # r3 += 12


def test_casts_need_no_helper() -> None:
    code = insns(translate(compile_expression("host 1.1.1.1 and tcp port 80", DLT_EN10MB), CAST))
    assert PROBE_READ_KERNEL not in code
    assert CALL_CAST in code


def test_bounds_are_checked_once_and_last() -> None:
    loads = [Insn(0x20, 0, 0, 30), Insn(0x30, 0, 0, 14), Insn(0x28, 0, 0, 20)]  # ld [30]; ldb [14]; ldh [20]
    code = insns(translate([*loads, ACCEPT], CAST))
    checks = [at for at, insn in enumerate(code) if insn[:2] == b"\xc6\x06"]  # if w6 s< end
    assert [int.from_bytes(code[at][4:], "little") for at in checks] == [34]
    assert code[checks[0] + 1 :][:2] == [bytes.fromhex("b400000001000000"), bytes.fromhex("9500000000000000")]


def test_two_words_are_one_load() -> None:
    code = insns(translate(compile_expression("ip host 1.2.3.4", DLT_EN10MB), CAST))
    loads = [insn for insn in code if insn[:2] == b"\x79\x01" and insn[2] == 26]  # r1 = *(u64 *)(r0 + 26)
    assert len(loads) == 1
    assert bytes.fromhex("1601") in [insn[:2] for insn in code if insn[4:] == bytes((1, 2, 3, 4))]  # not swapped
    assert bytes.fromhex("dc01000020000000") not in code


def test_code_that_is_not_reached_is_left_out() -> None:
    """The verifier refuses it."""
    over = Insn(0x05, 0, 0, 1)  # ja +1
    code = insns(translate([over, REJECT, ACCEPT], None))
    assert bytes.fromhex("b400000001000000") in code  # w0 = 1
    assert code.count(bytes.fromhex("b400000000000000")) == 1  # w0 = 0, for what has no link-layer header


def test_too_long() -> None:
    # A load each, and each check of its bounds jumps to the end.
    program = [Insn(0x30, 0, 0, offset) for offset in range(6000)] + [ACCEPT]
    with pytest.raises(PwruError, match="it needs 35417 instructions, about 32000 are possible; shorten it"):
        translate(program, CAST)
