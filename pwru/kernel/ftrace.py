"""Functions that ftrace can patch at their entry: kprobe-multi, fentry and kprobes take no others.

The kernel's own list, available_filter_functions, costs more than everything else at the start: the kernel looks up the
names of 40 000 addresses, which takes 200 to 600 ms in an emulated guest. The code itself says the same in a thirtieth
of that time: a function that ftrace can patch begins with a nop of 5 bytes that no compiler makes. Both agree on all
functions with a packet of Debian's 5.10, 6.1, 6.12, 6.18 and 7.2.

If the code cannot be read (lockdown, a container, another architecture) the list is used, if that can be read.
"""

import os
import struct
from collections.abc import Collection
from pathlib import Path

from pwru.kernel import features

KCORE = "/proc/kcore"

# What ftrace puts at the entry of a function that is not traced: arch/x86/include/asm/nops.h. The second is that of old
# AMD processors before v5.13: commit a89dfde3dc3c ("x86: Remove dynamic NOP selection").
_NOPS = (b"\x0f\x1f\x44\x00\x00", b"\x66\x66\x66\x66\x90")
# The nop comes first, or after the 4 bytes of endbr64 or what FineIBT (v6.2) leaves of it: arch/x86/include/asm/ibt.h.
_PLACES = (0, 4)
_NOP_SIZE = 5
_ENTRY_SIZE = 9
# The first byte of the entry of a function that is traced: a call, or for a moment a breakpoint.
_TRACED = (0xE8, 0xCC)

_ELF_HEADER = struct.Struct("<16x16xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_PROGRAM_HEADER = struct.Struct("<8xQQ16xQ8x")  # p_offset, p_vaddr, p_memsz; notes have no address and no memory


def traceable(functions: Collection[tuple[str, int]], tracefs: Path | None, kcore: str = KCORE) -> set[int] | None:
    """Return the addresses of those functions (name, address) that ftrace can patch; None if that is unknown."""
    if features.lockdown() == features.CONFIDENTIALITY:
        return None  # what is read below is denied, with a message in the kernel's log each
    entries = _entries([address for _, address in functions], kcore) if os.uname().machine == "x86_64" else None
    if entries is None or not any(_is_patchable(entry) for entry in entries.values()):
        names = available_functions(tracefs)
        return None if names is None else {address for name, address in functions if name in names}
    patchable = {address for address, entry in entries.items() if _is_patchable(entry)}
    # These are being traced (or just about to start or stop being), or begin with a real call. enabled_functions would
    # tell, but it changes before or after the code does; the list of all functions stays the same.
    calls = [
        (name, address)
        for name, address in functions
        if address not in patchable and any(entries[address][place] in _TRACED for place in _PLACES)
    ]
    if calls:
        names = available_functions(tracefs) or set()
        patchable |= {address for name, address in calls if name in names}
    return patchable


def nop_ends(addresses: Collection[int], kcore: str = KCORE) -> dict[int, int] | None:
    """Return where the nop ends in the functions that ftrace can patch; None if the code cannot be read."""
    entries = _entries(list(addresses), kcore) if os.uname().machine == "x86_64" else None
    if entries is None:
        return None
    return {
        address: address + place + _NOP_SIZE
        for address, entry in entries.items()
        for place in [place for place in _PLACES if entry.startswith(_NOPS, place) or entry[place] in _TRACED][:1]
    }


def available_functions(tracefs: Path | None) -> set[str] | None:
    """Return the names in available_filter_functions; None if it cannot be read. Several functions may share a name."""
    if tracefs is None:
        return None
    try:
        text = (tracefs / "available_filter_functions").read_bytes()
    except OSError:
        return None
    # "tcp_v4_rcv", "tun_net_xmit [tun]"
    return {line.split(None, 1)[0].decode() for line in text.splitlines() if line}


def _is_patchable(entry: bytes) -> bool:
    return any(entry.startswith(_NOPS, place) for place in _PLACES)


def _entries(addresses: list[int], kcore: str) -> dict[int, bytes] | None:
    """Return the first bytes of the functions at these addresses, from an ELF core file of the running kernel.

    /proc/kcore takes CAP_SYS_RAWIO, and cannot be read under a lockdown of confidentiality.
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
