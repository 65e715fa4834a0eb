"""Constants and maps replaced in instructions: what is meant changes, and nothing else."""

import struct

import pytest

from pwru.errors import PwruError
from pwru.live.backends.instructions import replace_constant, replace_map

_EXIT = struct.pack("<BBhI", 0x95, 0, 0, 0)


def _load(source: int, low: int, high: int = 0) -> bytes:
    """ld_imm64 of r1."""
    return struct.pack("<BBhI", 0x18, source << 4 | 1, 0, low) + struct.pack("<BBhI", 0, 0, 0, high)


def test_a_constant_is_replaced_in_both_halves() -> None:
    insns = _load(0, 0x11, 0x77) + _load(0, 0x11) + _EXIT
    assert replace_constant(insns, 0x77_0000_0011, 0xFEDCBA98_76543210) == (
        _load(0, 0x76543210, 0xFEDCBA98) + _load(0, 0x11) + _EXIT
    )


def test_a_second_half_is_no_instruction() -> None:
    second_half_like_a_load = struct.pack("<BBhI", 0x18, 0x10, 0, 5)
    insns = _load(0, 1)[:8] + second_half_like_a_load + _EXIT
    assert replace_map(insns, 5, 9) == insns


@pytest.mark.parametrize("insns", [_EXIT, _load(0, 7) * 2, _load(1, 7)])
def test_a_constant_that_is_not_there_once(insns: bytes) -> None:
    with pytest.raises(PwruError, match="does not belong to this version"):
        replace_constant(insns, 7, 8)


def test_a_map_is_replaced_wherever_it_is_used() -> None:
    insns = _load(1, 5) + _load(2, 5, 16) + _load(0, 5) + _load(1, 6) + _EXIT
    assert replace_map(insns, 5, 9) == _load(1, 9) + _load(2, 9, 16) + _load(0, 5) + _load(1, 6) + _EXIT
