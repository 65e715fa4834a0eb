"""The template for fentry, filled in for a function."""

from __future__ import annotations

import struct

import pytest

from pwru.kernel.functions import Target
from pwru.live.backends.fentry import specialize
from pwru.record.layout import Wire

TARGET = Target("f", 0xFFFFFFFF9FE3E110, 1, 0, False, 7, None, False)


def template(wire: Wire) -> bytes:
    arguments, address = wire.constant("FENTRY_TEMPLATE"), wire.constant("FENTRY_ADDRESS")
    return struct.pack(
        "<QBBhIBBhI" + "BBhIBBhI",
        *(0xB7,),  # r0 = 0
        *(0x18, 1, 0, arguments & 0xFFFFFFFF, 0, 0, 0, arguments >> 32),
        *(0x18, 2, 0, address & 0xFFFFFFFF, 0, 0, 0, address >> 32),
    )


def constants(wire: Wire, target: Target) -> tuple[int, int]:
    words = struct.unpack("<8x" + "4xI4xI" * 2, specialize(wire, template(wire), target))
    return words[0] | words[1] << 32, words[2] | words[3] << 32


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        (TARGET, 0xF0F0),
        (TARGET._replace(skb_arg=3), 0xF0F2),
        (TARGET._replace(skb_arg=2, reason_arg=3), 0xF021),
        (TARGET._replace(skb_arg=2, reason_arg=1), 0xF0F1),  # not next to the skb
        (TARGET._replace(double_pointer=True), 0xF1F0),
        (TARGET._replace(skb_arg=2, reason_arg=3, sock_arg=1), 0x0021),
        (TARGET._replace(sock_arg=6), 0x50F0),
        (TARGET._replace(sock_arg=7), 0xF0F0),  # out of reach
    ],
)
def test_constants(wire: Wire, target: Target, arguments: int) -> None:
    assert constants(wire, target) == (arguments, target.address)
