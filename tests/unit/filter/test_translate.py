"""What the translation must be beyond right (test_verdicts.py): small, and refused where it cannot be."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.filter.load import Cast
from pwru.filter.pcap import Insn, compile_filter
from pwru.filter.translate import translate

CAST = Cast(kfunc_id=0x1234, struct_id=0x5678)
ACCEPT, REJECT = Insn(0x06, 0, 0, 1), Insn(0x06, 0, 0, 0)
PROBE_READ_KERNEL = bytes.fromhex("8500000071000000")
CALL_CAST = bytes.fromhex("8520000034120000")


def insns(code: bytes) -> list[bytes]:
    return [code[at : at + 8] for at in range(0, len(code), 8)]


def test_window_serves_all_constant_offsets() -> None:
    code = insns(translate(compile_filter("host 1.1.1.1").l2, None))
    assert code.count(PROBE_READ_KERNEL) == 1


def test_window_is_no_larger_than_needed() -> None:
    code = insns(translate(compile_filter("host 1.1.1.1").l2, None))
    # Ethernet type at 12 to the end of ARP's target address at 42
    assert bytes.fromhex("b40200002a000000") in code  # w2 = 42, the end; and
    assert bytes.fromhex("140200000c000000") in code  # w2 -= 12


def test_casts_need_no_helper() -> None:
    code = insns(translate(compile_filter("host 1.1.1.1 and tcp port 80").l2, CAST))
    assert PROBE_READ_KERNEL not in code
    assert CALL_CAST in code


def test_bounds_are_checked_once_on_a_path() -> None:
    loads = [Insn(0x20, 0, 0, 30), Insn(0x30, 0, 0, 14), Insn(0x28, 0, 0, 20)]  # ld [30]; ldb [14]; ldh [20]
    checks = [insn for insn in insns(translate([*loads, ACCEPT], CAST)) if insn[0] == 0xA6]  # if w9 < end
    assert [int.from_bytes(insn[4:], "little") for insn in checks] == [34]


def test_code_that_is_not_reached_is_left_out() -> None:
    """The verifier refuses it."""
    over = Insn(0x05, 0, 0, 1)  # ja +1
    code = insns(translate([over, REJECT, ACCEPT], None))
    assert bytes.fromhex("b400000001000000") in code  # w0 = 1
    assert bytes.fromhex("b400000000000000") not in code  # w0 = 0


def test_too_long() -> None:
    # A load each, and each check of its bounds jumps to the end.
    program = [Insn(0x30, 0, 0, offset) for offset in range(6000)] + [ACCEPT]
    with pytest.raises(PwruError, match="it needs 35507 instructions, about 32000 are possible; shorten it"):
        translate(program, CAST)
