"""Blocks of a pcapng file, as draft-ietf-opsawg-pcapng has them, in the byte order of this machine.

Written here, since the library for it, python-pcapng, takes 30 µs per packet and had its last release in 2022.
"""

import struct
from collections.abc import Mapping

# Of link types: https://www.tcpdump.org/linktypes.html
ETHERNET, RAW = 1, 101
INBOUND, OUTBOUND = 1, 2

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
_COMMENT = 1
_HARDWARE, _SYSTEM, _APPLICATION = 2, 3, 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_FLAGS, _PACKET_ID = 2, 5
_NANOSECONDS = b"\x09"  # 10^-9 s
_LONGEST = 0xFFFF  # bytes of an option

_HEAD = struct.Struct("=II")
_TAIL = struct.Struct("=I")
_OPTION = struct.Struct("=HH")
_END_OF_OPTIONS = _OPTION.pack(0, 0)
_PACKET_HEAD = struct.Struct("=5I")


def section(comment: str, hardware: str, system: str, application: str) -> bytes:
    """Return a section header, with which a file begins."""
    texts = {_COMMENT: comment, _HARDWARE: hardware, _SYSTEM: system, _APPLICATION: application}
    return _block(
        _SECTION,
        struct.pack("=IHHq", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH),
        _options({code: text.encode() for code, text in texts.items()}),
    )


def interface(link_type: int, name: str, description: str) -> bytes:
    """Return the description of an interface; packets name it by how many precede it in the section."""
    options = {_NAME: name.encode(), _DESCRIPTION: description.encode(), _RESOLUTION: _NANOSECONDS}
    return _block(_INTERFACE, struct.pack("=HHI", link_type, 0, 0), _options(options))


def packet(interface: int, time: int, data: bytes, length: int, options: Mapping[int, bytes]) -> bytes:
    """Return an enhanced packet block: `data` are the first bytes of `length`, `time` is in ns since 1970.

    `options`: see packet_options().
    """
    head = _PACKET_HEAD.pack(interface, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, len(data), length)
    return _block(_PACKET, head, _padded(data), _options(options))


def packet_options(comment: str, direction: int = 0, packet_id: int = 0) -> dict[int, bytes]:
    """Return the options of a packet. `direction` is INBOUND, OUTBOUND or 0, if it is not known.

    Packets with the same `packet_id` are one, seen more than once; 0: that is not known.
    """
    options = {_COMMENT: comment.encode()}
    if direction:
        options[_FLAGS] = struct.pack("=I", direction)
    if packet_id:
        options[_PACKET_ID] = struct.pack("=Q", packet_id)
    return options


def _block(kind: int, *parts: bytes) -> bytes:
    size = _HEAD.size + sum(map(len, parts)) + _TAIL.size
    return b"".join((_HEAD.pack(kind, size), *parts, _TAIL.pack(size)))


def _options(values: Mapping[int, bytes]) -> bytes:
    options = [_option(code, value) for code, value in values.items()]
    return b"".join((*options, _END_OF_OPTIONS))


def _option(code: int, value: bytes) -> bytes:
    if len(value) > _LONGEST:
        value = value[:_LONGEST].decode(errors="ignore").encode()
    return _OPTION.pack(code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
