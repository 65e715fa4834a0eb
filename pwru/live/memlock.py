"""RLIMIT_MEMLOCK: up to v5.10 the kernel counts the memory of BPF maps and programs as locked (ulimit -l).

It counts what all processes of the user have, of which nobody tells the sum, and holds it against the limit of the one
that asks for more. So the limit is raised to what is needed here, then doubled as long as that is refused. Beyond the
hard limit this takes CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.errors import PwruError
from pwru.kernel.features import charges_memlock
from pwru.live import rlimits as limits

if TYPE_CHECKING:
    from pwru.libbpf import Object
    from pwru.live.backends import Sites

_PAGE = resource.getpagesize()
_MAP_PAGES = 3  # of a map, besides its values
# For the programs, what libbpf loads to see what works, and the few programs of systemd.
_OTHER = 1 << 20
# Room for what libbpf loads to see what works: it would take a refusal for something that the kernel does not have.
_PROBES = 1 << 16


def make_room(bpf: Object, sites: Sites) -> None:
    """Before the object's load, on any kernel. PwruError if the limit is too low and cannot be raised."""
    if not _is_charged(sites):
        return
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    _has_room()
    # The first thing that libbpf creates makes it raise the limit to infinity. libbpf_set_memlock_rlim(0) would keep it
    # from that, but old ones do not export it.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    maps = sum(_pages(m.max_entries * max(m.value_size, 1)) + _MAP_PAGES * _PAGE for m in bpf.maps())
    _raise_to(maps + _OTHER)
    while not _has_room() and grow(sites):
        pass


def grow(sites: Sites) -> bool:
    """After EPERM: whether it may have been the limit, which is twice as high now. PwruError if it cannot be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft > os.sysconf("SC_PHYS_PAGES") * _PAGE or not _is_charged(sites):
        return False
    _raise_to(2 * soft)
    return True


def _is_charged(sites: Sites) -> bool:
    return sites.ask("memory is locked", charges_memlock)


def _raise_to(needed: int) -> None:
    if not limits.at_least(resource.RLIMIT_MEMLOCK, needed):
        _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        raise PwruError(
            "this kernel counts BPF memory as locked memory,"
            f" of which {hard >> 10} kB are allowed and {needed >> 10} kB"
            f" needed: `ulimit -l {needed >> 10}` as root first, or CAP_SYS_RESOURCE, helps"
        )


def _has_room() -> bool:
    try:
        os.close(libbpf.map_create_array(bytes(_PROBES)))
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
