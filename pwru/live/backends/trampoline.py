"""What the backends on BPF trampolines (fentry) share: which functions they take, and the BTF that those are of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.errors import PwruError
from pwru.live.backends import Refused, Sites

if TYPE_CHECKING:
    from pwru.kernel.btf import Btf
    from pwru.kernel.functions import Target


def split(sites: Sites, targets: list[Target]) -> tuple[list[Target], dict[str, list[str]]]:
    """Those of the targets that a trampoline can be made for, and the names of the others by cause.

    The kernel is given a function's id in BTF and looks up its name there to find where it is.
    """
    from pwru.kernel.btf import no_trampoline

    btfs: dict[str | None, Btf | None] = {None: sites.btf}
    modules = [target for target in targets if target.module is not None]
    hidden = sites.kallsyms.find({target.name for target in modules}) if modules else {}
    found: list[Target] = []
    left_out: dict[str, list[str]] = {}
    for target in targets:
        if target.module is not None and target.module not in btfs:
            try:
                btfs[target.module] = sites.module_btf(target.module)
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
            # Up to v6.2 the kernel takes that one: commit 31bf1dbccfb0 ("bpf: Fix attaching
            # fentry/fexit/fmod_ret/lsm to modules").
            cause = "there is a function of this name in vmlinux"
        else:
            cause = no_trampoline(btf, target.btf_id)
        if cause:
            left_out.setdefault(cause, []).append(target.name)
        else:
            found.append(target)
    if not found:
        raise Refused("; ".join(f"{', '.join(names[:3])}: {cause}" for cause, names in left_out.items()))
    return found, left_out


@contextmanager
def module_btf(module: str | None) -> Iterator[int]:
    """The descriptor of a module's BTF, 0 for vmlinux. OSError: it is gone, or CAP_SYS_ADMIN is missing."""
    fd = 0 if module is None else libbpf.module_btf(module)
    try:
        yield fd
    finally:
        if fd:
            os.close(fd)
