"""The user side of a BPF ring buffer whose records have one size, read in place and in bulk.

Layout and protocol: Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c. The data pages are mapped twice in a row,
so records from the consumer's position on are contiguous. libbpf's ring_buffer calls back once per record; walking the
mapping costs half of that in Python, and lets a run of records be decoded in one call.
"""

import mmap
import select
import struct
from typing import Any

# The header of a record: its length, with a bit that is set while the kernel writes the record, and a page offset.
HEADER = struct.Struct("=II")


class Records:
    """Records of one format in a ring buffer."""

    def __init__(self, form: str) -> None:
        """`form`: a format of struct, without alignment; its size is a multiple of 8, like that of all records."""
        self._struct = struct.Struct(f"={HEADER.size}x{form}")
        self._length = struct.calcsize(f"={form}")
        assert self._length % 8 == 0
        self.size = self._struct.size

    def complete(self, data: memoryview) -> list[tuple[Any, ...]]:
        """Return the records at the beginning of `data`, up to the first that the kernel is still writing."""
        size = self.size
        whole = len(data) // size
        lengths = data[: whole * size].cast("I")[:: size // 4].tolist()
        if lengths.count(self._length) != whole:
            whole = next(index for index, length in enumerate(lengths) if length != self._length)
        return list(self._struct.iter_unpack(data[: whole * size]))


class RingBuffer:
    """A mapped ring buffer: `poll` waits for records, read() returns them, consume() frees their space.

    The kernel wakes the reader for a record that comes while no other is waiting to be consumed. A busy reader holds
    its last record, and is not woken for those that come meanwhile: waking costs more than a record.
    """

    def __init__(self, map_fd: int, size: int, form: str) -> None:
        """`size`: the bytes of the data area, the map's max_entries. `form`: the format of a record, see Records."""
        page = mmap.PAGESIZE
        self._records = Records(form)
        self._size = size
        self._consumer = mmap.mmap(map_fd, page)
        self._producer = mmap.mmap(map_fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._consumer_pos = memoryview(self._consumer).cast("Q")
        self._producer_view = memoryview(self._producer)
        self._producer_pos = self._producer_view[:8].cast("Q")
        self._data = self._producer_view[page:]
        self._position = self._consumer_pos[0]
        self.poll = select.epoll()
        self.poll.register(map_fd, select.EPOLLIN)

    def read(self, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
        """Return the complete records among the next `limit` bytes, and whether any record is pending."""
        pending = min(self._producer_pos[0] - self._position, limit)
        start = self._position & (self._size - 1)
        return self._records.complete(self._data[start : start + pending]), pending > 0

    @property
    def produced(self) -> int:
        """How many bytes the kernel has written so far, since the beginning of time."""
        return int(self._producer_pos[0])

    @property
    def consumed(self) -> int:
        """How many of these have been read and consumed."""
        return self._position

    def consume(self, count: int) -> None:
        """Free the space of `count` records, except that of the last one, which is held."""
        self._position += count * self._records.size
        self._consumer_pos[0] = self._position - self._records.size

    def fills(self, count: int) -> bool:
        """Return whether `count` records are a good part of the buffer, so that more are sure to come."""
        return count * self._records.size > self._size // 8

    @property
    def holds(self) -> bool:
        return self._position != self._consumer_pos[0]

    def release(self) -> None:
        """Free the record that is held: from now on the kernel wakes the reader."""
        self._consumer_pos[0] = self._position

    def close(self) -> None:
        """Unmap the buffer. May be called more than once."""
        self.poll.close()
        for view in (self._data, self._producer_pos, self._producer_view, self._consumer_pos):
            view.release()
        self._producer.close()
        self._consumer.close()
