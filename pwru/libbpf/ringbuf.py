"""The user side of a BPF ring buffer, read in place and in bulk.

Layout and protocol: Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c. The data pages are mapped twice in a
row, so records from the consumer's position on are contiguous. libbpf's ring_buffer calls back once a record;
walking the mapping costs half of that in Python, and lets a run of records be decoded in one call.
"""

from __future__ import annotations

import mmap
import select

HEADER_SIZE = 8
BUSY_BIT = 1 << 31
DISCARD_BIT = 1 << 30


class RingBuffer:
    """`poll()` for something to read, `read()` what is there, `consume()` what was taken.

    The kernel wakes the reader for a record that comes while none is waiting to be consumed. A reader that is busy
    holds back its last one, and is not woken for those that come meanwhile: waking costs more than a record does.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        """`size`: of the data area in bytes, the map's max_entries."""
        page = mmap.PAGESIZE
        self.size = size
        self._consumer = mmap.mmap(map_fd, page)
        self._producer = mmap.mmap(map_fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        self._consumer_pos = memoryview(self._consumer).cast("Q")
        self._producer_view = memoryview(self._producer)
        self._producer_pos = self._producer_view[:8].cast("Q")
        self._data = self._producer_view[page:]
        self._position = self._consumer_pos[0]
        self.poll = select.epoll()
        self.poll.register(map_fd, select.EPOLLIN)

    def read(self, limit: int) -> memoryview:
        """At most `limit` bytes of reserved records, each a header of 8 bytes and the record, in multiples of 8.

        The header's first word is the record's length, with BUSY_BIT while the kernel still writes it: reading
        must stop there.
        """
        pending = min(self._producer_pos[0] - self._position, limit)
        start = self._position & (self.size - 1)
        return self._data[start : start + pending]

    def consume(self, count: int, hold: int = 0) -> None:
        """Gives `count` bytes back to the kernel, but for the last `hold`."""
        self._position += count
        self._consumer_pos[0] = self._position - hold

    @property
    def holds(self) -> bool:
        return self._position != self._consumer_pos[0]
