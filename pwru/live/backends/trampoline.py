"""Shared by what is on BPF trampolines: the functions that they can trace, the BTF of modules, how it ends."""

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from pwru import libbpf
from pwru.errors import PwruError, abbreviate
from pwru.kernel.btf import Btf
from pwru.kernel.functions import Target
from pwru.kernel.kernel import Kernel
from pwru.libbpf import Link, syscalls
from pwru.live.backends.child import hold
from pwru.live.backends.how import Refused
from pwru.live.program import Program


def split_by_trampoline(kernel: Kernel, targets: list[Target]) -> tuple[list[Target], dict[str, list[str]]]:
    """Return the targets that can have a trampoline, and the names of the others by cause.

    The kernel is given a function's id in BTF, and looks up its name for the address. Raises Refused if none can.
    """
    from pwru.kernel.btf import no_trampoline

    btfs: dict[str | None, Btf | None] = {None: kernel.btf}
    modules = [target for target in targets if target.module is not None]
    hidden = kernel.kallsyms.find({target.name for target in modules}) if modules else {}
    suitable: list[Target] = []
    left_out: dict[str, list[str]] = {}
    for target in targets:
        if target.module is not None and target.module not in btfs:
            try:
                btfs[target.module] = kernel.module_btf(target.module)
            except PwruError:
                btfs[target.module] = None
        btf = btfs[target.module]
        if btf is None:
            cause: str | None = "its module is gone"
        elif target.ambiguous:
            cause = "several functions have this name"
        elif "." in target.name:
            cause = "BTF does not have the name that the compiler gave it"
        elif target.module is not None and target.name in hidden:
            # Up to v6.2 the kernel takes the function of vmlinux: commit 31bf1dbccfb0 ("bpf: Fix attaching
            # fentry/fexit/fmod_ret/lsm to modules").
            cause = "there is a function of this name in vmlinux"
        else:
            cause = no_trampoline(btf, target.btf_id)
        if cause:
            left_out.setdefault(cause, []).append(target.name)
        else:
            suitable.append(target)
    if not suitable:
        raise Refused("; ".join(f"{abbreviate(names)}: {cause}" for cause, names in left_out.items()))
    return suitable, left_out


@contextmanager
def module_btf(module: str | None) -> Iterator[int]:
    """Yield a descriptor of a module's BTF, 0 for vmlinux. Raises OSError if it is gone, or without CAP_SYS_ADMIN."""
    fd = 0 if module is None else libbpf.module_btf(module)
    try:
        yield fd
    finally:
        if fd:
            os.close(fd)


@contextmanager
def stopped(program: Program, links: Collection[Link], *, may_fork: bool) -> Iterator[None]:
    """Tell the programs to do nothing, since trampolines take their time to go; close the links inside.

    If that is permitted, a child process holds them, too, and does the waiting.
    """
    program.map(".data.stopped").update(bytes(4), struct.pack("=I", 1))
    with suppress(OSError):  # then events of programs that run at this moment may be missing
        syscalls.membarrier()
    child = None
    if may_fork:
        with suppress(OSError):  # then it takes its time
            child = hold([link.fd for link in links])
    try:
        yield
    finally:
        if child:
            child.release()
