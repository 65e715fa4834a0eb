"""The window: the bytes of the packet that a filter without casts copies to the stack in one piece."""

from collections.abc import Sequence

from pwru.ebpf import Size

ALIGNMENT = 4  # of the window: that of the longest load


class Window:
    """The bytes [start, end) of the packet, copied to the stack at r10 + base."""

    def __init__(self, loads: Sequence[tuple[int, Size]], top: int) -> None:
        self.start = min(k for k, _ in loads)
        self.end = max(k + size.nbytes for k, size in loads)
        # The verifier wants loads from the stack aligned; IP addresses after an Ethernet header are not. Begin the
        # window where the fewest loads are misaligned.
        length = self.end - self.start
        self.base = min(
            range(-length - top, -length - top - ALIGNMENT, -1),
            key=lambda base: sum((base + k - self.start) % size.nbytes != 0 for k, size in loads),
        )

    def covers(self, k: int, size: Size) -> bool:
        return self.start <= k and k + size.nbytes <= self.end
