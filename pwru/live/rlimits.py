"""Locked memory, RLIMIT_MEMLOCK (ulimit -l): raised only if needed, and only as far as needed.

Up to v5.10 the kernel counts the memory of BPF maps and programs as locked. It charges all
processes of the user together, against the limit of the process that asks for more, and the total is not exposed. So
the limit is raised to what is needed here, then doubled as long as the kernel refuses.
"""

import errno
import os
import resource
from collections.abc import Callable

from pwru import libbpf
from pwru.errors import PwruError
from pwru.kernel.features import charges_memlock
from pwru.kernel.kernel import Kernel
from pwru.libbpf import Object
from pwru.limits import at_least

_PAGE = resource.getpagesize()
_MAP_PAGES = 3  # per map, in addition to its values
_OTHER = 1 << 20  # for the programs, for libbpf's feature probes, and for the few programs of systemd
_PROBES = 1 << 16  # room for libbpf's feature probes: it would take a refusal for a missing feature


def make_room(bpf: Object, kernel: Kernel) -> None:
    """Raise the limit for the load of this object, if this kernel needs it. Raises PwruError if that is impossible."""
    if not _is_charged(kernel):
        return
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    _has_room()
    # The first thing that libbpf creates makes it raise the limit to infinity. libbpf_set_memlock_rlim(0) would prevent
    # that, but old versions do not export it.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, before)
    maps = sum(_pages(m.max_entries * max(m.value_size, 1)) + _MAP_PAGES * _PAGE for m in bpf.maps())
    _raise_memlock(maps + _OTHER)
    while not _has_room() and grow_memlock(kernel):
        pass


def grow_memlock(kernel: Kernel) -> bool:
    """After EPERM, double the limit; return False if the limit was not the reason. Raises PwruError if it cannot be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft > os.sysconf("SC_PHYS_PAGES") * _PAGE or not _is_charged(kernel):
        return False
    _raise_memlock(2 * soft)
    return True


def with_memlock(kernel: Kernel, load: Callable[[], int]) -> int:
    """Return what `load` returns, after raising the limit as often as that was why it failed."""
    while True:
        try:
            return load()
        except OSError as error:
            if error.errno != errno.EPERM or not grow_memlock(kernel):
                raise


def _is_charged(kernel: Kernel) -> bool:
    return kernel.fact("memory is locked", charges_memlock)


def _raise_memlock(needed: int) -> None:
    if not at_least(resource.RLIMIT_MEMLOCK, needed):
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
