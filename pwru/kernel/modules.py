"""Loaded modules: which there are, why one is not among them, and which come while we look."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pwru.errors import PwruError

PROC = "/proc/modules"
SYS = "/sys/module"
# Commit 36e68442d1af ("bpf: Load and verify kernel module BTFs"), in v5.11.
BTF = "/sys/kernel/btf"
LIB = f"/lib/modules/{os.uname().release}"
# What is missing where no module has any.
NO_BTF = "this kernel has no BTF of its modules (Linux 5.11, CONFIG_DEBUG_INFO_BTF_MODULES)"


def loaded(proc: str = PROC, sys: str = SYS) -> dict[str, int]:
    """Names of the modules that are loaded, initialised and not on their way out.

    Each has the inode of its directory in sysfs, another one whenever it is loaded anew. None where the kernel cannot
    load modules.
    """
    found = {}
    with suppress(FileNotFoundError):
        # "veth 45056 0 - Live 0x0000000000000000"
        for line in Path(proc).read_text().splitlines():
            name, _, _, _, state, *_ = line.split()
            if state == "Live":
                with suppress(OSError):  # it has gone this very moment
                    found[name] = os.stat(f"{sys}/{name}").st_ino
    return found


def btf_path(module: str) -> str:
    """Where the module's BTF is, if it has any: split BTF, based on that of vmlinux."""
    return f"{BTF}/{module}"


def without_btf(modules: Iterable[str], btf: str = BTF) -> list[str]:
    return [module for module in modules if not os.path.exists(f"{btf}/{module}")]


def resolve(wanted: tuple[str, ...], sys: str = SYS, lib: str = LIB, btf: str = BTF, proc: str = PROC) -> list[str]:
    """The modules of --kmods, by their names in the kernel (`nf-tables` is nf_tables).

    Raises PwruError for one that is not loaded, saying what it is instead, and for one without BTF.
    """
    names = list(dict.fromkeys(map(_name, wanted)))
    there = loaded(proc, sys)
    for name in names:
        if name not in there:
            raise PwruError(f"--kmods {name}: {_absent(name, list(there), sys, lib)}")
    for name in without_btf(names, btf):
        if len(without_btf(list(there), btf)) == len(there):
            raise PwruError(f"--kmods {name}: {NO_BTF}, so what its functions have as arguments is not known")
        raise PwruError(f"--kmods {name}: the module is built without BTF, so its functions' arguments are not known")
    return names


def _name(text: str) -> str:
    return text.replace("-", "_")


def _absent(name: str, there: list[str], sys: str, lib: str) -> str:
    if name in _listed(f"{lib}/modules.builtin"):
        return "it is built into this kernel and traced without this flag; leave it out"
    loadable = _listed(f"{lib}/modules.dep")
    if name in loadable:
        return f"it is not loaded; load it (modprobe {name}), or take --all-kmods, which sees to it when it is loaded"
    if os.path.exists(f"{sys}/{name}"):
        return "it is no loaded module, but a part of this kernel, or is being loaded or unloaded right now"
    from difflib import get_close_matches

    near = get_close_matches(name, there, n=3) or get_close_matches(name, loadable, n=3)
    return "there is no such module" + (f"; near it: {', '.join(near)}" if near else "")


def _listed(path: str) -> list[str]:
    """Modules in a file of depmod(8): "kernel/drivers/net/veth.ko.xz: …"; none if there is no such file."""
    try:
        text = Path(path).read_text()
    except OSError:
        return []
    return [_name(os.path.basename(line.partition(":")[0]).partition(".ko")[0]) for line in text.splitlines()]
