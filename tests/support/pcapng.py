"""A reader of pcapng that knows nothing of the writer: draft-ietf-opsawg-pcapng, as far as pwru's files go."""

from __future__ import annotations

import struct
from typing import NamedTuple

ETHERNET, RAW = 1, 101
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6


class Interface(NamedTuple):
    link_type: int
    name: str
    description: str


class Packet(NamedTuple):
    """`time` is in ns since 1970, `direction` 1 (inbound), 2 (outbound) or 0, `id` 0 if there is none."""

    interface: Interface
    time: int
    data: bytes
    length: int
    comment: str
    direction: int
    id: int


class Capture(NamedTuple):
    """`about`: the texts of the section header by their code."""

    about: dict[int, str]
    interfaces: list[Interface]
    packets: list[Packet]

    @property
    def comments(self) -> list[str]:
        return [packet.comment for packet in self.packets]


def read(data: bytes) -> Capture:
    """Return what a file of one section has; every byte of it must be as the draft says."""
    interfaces: list[Interface] = []
    packets: list[Packet] = []
    about: dict[int, str] = {}
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("=II", data, at)
        assert size % 4 == 0
        assert struct.unpack_from("=I", data, at + size - 4) == (size,)
        body = data[at + 8 : at + size - 4]
        assert (kind == _SECTION) == (at == 0)
        if kind == _SECTION:
            assert struct.unpack_from("=IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
            about = {code: value.decode() for code, value in _options(body[16:]).items()}
        elif kind == _INTERFACE:
            link_type, reserved, snaplen = struct.unpack_from("=HHI", body)
            assert (reserved, snaplen) == (0, 0)
            options = _options(body[8:])
            assert options[9] == b"\x09"
            interfaces.append(Interface(link_type, options[2].decode(), options[3].decode()))
        else:
            assert kind == _PACKET
            packets.append(_packet(body, interfaces))
        at += size
    assert at == len(data)
    return Capture(about, interfaces, packets)


def _packet(body: bytes, interfaces: list[Interface]) -> Packet:
    interface, high, low, captured, length = struct.unpack_from("=5I", body)
    assert captured <= length
    end = 20 + captured + -captured % 4
    assert not any(body[20 + captured : end])
    options = _options(body[end:])
    direction = int.from_bytes(options.get(2, b"\0"), "little")
    number = int.from_bytes(options.get(5, b"\0"), "little")
    data = body[20 : 20 + captured]
    return Packet(interfaces[interface], high << 32 | low, data, length, options[1].decode(), direction, number)


def _options(data: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    at = 0
    while True:
        code, size = struct.unpack_from("=HH", data, at)
        if not code:
            assert (size, at + 4) == (0, len(data))
            return options
        assert code not in options
        options[code] = data[at + 4 : at + 4 + size]
        padded = size + -size % 4
        assert not any(data[at + 4 + size : at + 4 + padded])
        at += 4 + padded
