"""The file of a recording: a magic, a version, and chunks, each with its kind, its lengths and a checksum.

What is in the chunks is not known here. docs/file-format.md describes the format, and what is promised of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from pwru.errors import PwruError

MAGIC = b"\x89pwru\r\n\x1a"
MAJOR, MINOR = 1, 0
HEADER, NAMES, EVENTS, CONTINUED, ACCOUNT = b"HEAD", b"NAME", b"EVNT", b"CONT", b"ACCT"
MAX_SIZE = 1 << 24  # of what a chunk holds, in bytes
_VERSION = struct.Struct("<HH")
# Kind, length in the file, length once decompressed, CRC-32 of these three and of the bytes in the file.
_CHUNK = struct.Struct("<4sIII")
_CHECKED = struct.Struct("<4sII")


class Damaged(PwruError):
    """A recording is damaged from here on, or was cut."""


def start() -> bytes:
    """Return how a recording begins."""
    return MAGIC + _VERSION.pack(MAJOR, MINOR)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of at most MAX_SIZE bytes of data."""
    assert len(data) <= MAX_SIZE
    stored = zlib.compress(data, 1)
    checked = _CHECKED.pack(kind, len(stored), len(data))
    return b"".join((checked, struct.pack("<I", zlib.crc32(stored, zlib.crc32(checked))), stored))


def read(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the data of each chunk: from the beginning to the end of the file.

    Memory is taken only for bytes that are in the file, and for MAX_SIZE of what they hold. Raises PwruError if this is
    no recording or one of a later major version, Damaged where it is damaged or ends too early, and OSError.
    """
    begin = _read(file, len(MAGIC) + _VERSION.size)
    if not begin.startswith(MAGIC):
        raise PwruError("it is no recording of pwru")
    if len(begin) < len(MAGIC) + _VERSION.size:
        raise Damaged("it ends after a few bytes")
    major, minor = _VERSION.unpack(begin[len(MAGIC) :])
    if major != MAJOR:
        raise PwruError(f"it is of version {major}.{minor} of the format, and this pwru reads version {MAJOR}")
    while head := _read(file, _CHUNK.size):
        if len(head) < _CHUNK.size:
            raise Damaged("it ends within a chunk")
        kind, length, size, checksum = _CHUNK.unpack(head)
        if size > MAX_SIZE or length > size + size // 100 + 64:  # zlib adds less to what it cannot compress
            raise Damaged("the length of a chunk is damaged")
        stored = _read(file, length)
        if len(stored) < length:
            raise Damaged("it ends within a chunk")
        if zlib.crc32(stored, zlib.crc32(head[: _CHECKED.size])) != checksum:
            raise Damaged("a chunk is damaged: its checksum is wrong")
        yield kind, _decompress(stored, size)


def _read(file: IO[bytes], length: int) -> bytes:
    """Return so many bytes, or fewer at the end; a pipe gives them piece by piece."""
    pieces, left = [], length
    while left and (piece := file.read(min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _decompress(stored: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(stored, size + 1)
    except zlib.error:
        raise Damaged("a chunk is damaged: it cannot be decompressed") from None
    if len(data) != size or not decompressor.eof:
        raise Damaged("a chunk is damaged: its length is wrong")
    return data
