"""Where the kernel has memory, and the struct pages that describe it: what it takes to read a page fragment of an skb.

Both are mapped in one piece, at addresses that change with every boot. The ELF headers of /proc/kcore tell them: those
of memory have its physical address, and there is one for the struct pages of each piece of memory.
"""

import os
import struct
from typing import NamedTuple

from pwru.kernel import features
from pwru.kernel.ftrace import KCORE

_HEADER = struct.Struct("<16x16xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_SEGMENT = struct.Struct("<I12xQQ8xQ8x")  # p_type, p_vaddr, p_paddr, p_memsz
_PT_LOAD = 1
_NO_PHYSICAL = (1 << 64) - 1  # of what is not memory itself: kclist_add() in fs/proc/kcore.c


class Pages(NamedTuple):
    """A struct page, the address of its page, and the size of a page."""

    first_page: int
    first_address: int
    page_size: int


def find_pages(struct_size: int, kcore: str = KCORE) -> Pages | None:
    """Return the first ones; `struct_size` is that of struct page. None if that is unknown.

    It takes CAP_SYS_RAWIO. Under a lockdown of confidentiality it is denied, with a message in the kernel's log.
    """
    if features.lockdown() == features.CONFIDENTIALITY:
        return None
    try:
        with open(kcore, "rb") as file:
            offset, size, count = _HEADER.unpack(file.read(_HEADER.size))
            file.seek(offset)
            headers = file.read(size * count)
        segments = [_SEGMENT.unpack_from(headers, size * index) for index in range(count)]
    except (OSError, struct.error):
        return None
    return _first(segments, struct_size, os.sysconf("SC_PAGE_SIZE"))


def _first(segments: list[tuple[int, int, int, int]], struct_size: int, page_size: int) -> Pages | None:
    loaded = [each for kind, *each in segments if kind == _PT_LOAD]
    others = [(address, size) for address, physical, size in loaded if physical == _NO_PHYSICAL]
    for address, physical, size in sorted(loaded, key=lambda each: each[1]):
        # The struct pages of it, from the start of a page to the end of one: get_sparsemem_vmemmap_info().
        first = physical // page_size * struct_size
        last = first + size // page_size * struct_size
        length = -(-last // page_size) * page_size - first // page_size * page_size
        found = [start for start, length_of in others if length_of == length]
        if physical != _NO_PHYSICAL and len(found) == 1:
            return Pages(found[0] + first % page_size, address, page_size)
    return None
