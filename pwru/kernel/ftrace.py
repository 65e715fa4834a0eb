"""Which functions ftrace can patch at their entry: the only ones that kprobe-multi, fentry and kprobes take.

The kernel's own list, available_filter_functions, costs more than everything else at the start: it makes a name of each
of 40 000 addresses, 200 to 600 ms in an emulated guest. The code itself tells the same in a thirtieth of that: a
function that ftrace can patch begins with a nop of 5 bytes that no compiler makes. Both agree on all functions with a
packet of Debian's 5.10, 6.1, 6.12, 6.18 and 7.2. Where the code cannot be read (lockdown, a container, another
architecture) the list is taken; where that cannot be read either, nobody knows.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path

KCORE = "/proc/kcore"

# What ftrace puts at the entry while nobody traces the function: arch/x86/include/asm/nops.h. The second one is that of
# old AMD processors up to v5.12: commit a89dfde3dc3c ("x86: Remove dynamic NOP selection").
_NOPS = (b"\x0f\x1f\x44\x00\x00", b"\x66\x66\x66\x66\x90")
# endbr64, and what FineIBT (v6.2) leaves of it, are 4 bytes before it: arch/x86/include/asm/ibt.h.
_PLACES = (0, 4)
_NOP_SIZE = 5
_ENTRY_SIZE = 9
# What is there while somebody does: a call, and for a moment a breakpoint.
_TRACED = (0xE8, 0xCC)

_ELF_HEADER = struct.Struct("<16x16xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_PROGRAM_HEADER = struct.Struct("<8xQQ16xQ8x")  # p_offset, p_vaddr, p_memsz; notes have no address and no memory


def traceable(functions: Collection[tuple[str, int]], tracefs: Path | None, kcore: str = KCORE) -> set[int] | None:
    """The addresses of those of these functions, given by name and address, that ftrace can patch; None: unknown."""
    entries = _entries([address for _, address in functions], kcore) if os.uname().machine == "x86_64" else None
    if entries is None or not any(_is_patchable(entry) for entry in entries.values()):
        names = available_functions(tracefs)
        return None if names is None else {address for name, address in functions if name in names}
    found = {address for address, entry in entries.items() if _is_patchable(entry)}
    # Somebody is tracing these, has just begun or is about to have ended, or they merely begin with a call. The list of
    # what is traced (enabled_functions) is ahead of the code or behind it; this one stays the same.
    calls = [(name, address) for name, address in functions if address not in found and _is_call(entries[address])]
    if calls:
        names = available_functions(tracefs) or set()
        found |= {address for name, address in calls if name in names}
    return found


def nop_ends(addresses: Collection[int], kcore: str = KCORE) -> dict[int, int] | None:
    """Where the nop ends in those of these functions that ftrace can patch; None if the code cannot be read."""
    entries = _entries(list(addresses), kcore) if os.uname().machine == "x86_64" else None
    if entries is None:
        return None
    return {
        address: address + place + _NOP_SIZE
        for address, entry in entries.items()
        for place in [place for place in _PLACES if entry.startswith(_NOPS, place) or entry[place] in _TRACED][:1]
    }


def available_functions(tracefs: Path | None) -> set[str] | None:
    """Names in available_filter_functions, None if it cannot be read; several functions may have one name."""
    return _names(tracefs, "available_filter_functions")


def _names(tracefs: Path | None, file: str) -> set[str] | None:
    """The first word of each line: "tcp_v4_rcv", "tun_net_xmit [tun]", "tcp_v4_rcv (1) R"."""
    if tracefs is None:
        return None
    try:
        text = (tracefs / file).read_bytes()
    except OSError:
        return None
    return {line.split(None, 1)[0].decode() for line in text.splitlines() if line}


def _is_patchable(entry: bytes) -> bool:
    return any(entry.startswith(_NOPS, place) for place in _PLACES)


def _is_call(entry: bytes) -> bool:
    return any(entry[place] in _TRACED for place in _PLACES)


def _entries(addresses: list[int], kcore: str) -> dict[int, bytes] | None:
    """The first bytes of the functions at these addresses, from an ELF core file of the running kernel.

    /proc/kcore takes CAP_SYS_RAWIO, and no lockdown of confidentiality.
    """
    try:
        fd = os.open(kcore, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        header = os.pread(fd, _ELF_HEADER.size, 0)
        offset, size, count = _ELF_HEADER.unpack(header)
        headers = os.pread(fd, size * count, offset)
        segments = [
            (start, start + length, offset - start)
            for offset, start, length in (_PROGRAM_HEADER.unpack_from(headers, size * index) for index in range(count))
        ]
        entries = {}
        for address in addresses:
            shift = next(shift for start, end, shift in segments if start <= address < end)
            entry = os.pread(fd, _ENTRY_SIZE, address + shift)
            if len(entry) < _ENTRY_SIZE:
                return None
            entries[address] = entry
    except (OSError, struct.error, StopIteration):
        return None
    finally:
        os.close(fd)
    return entries
