"""Kernel modules: those that are loaded, and why one is not among them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pwru.errors import PwruError, near

PROC = "/proc/modules"
SYS = "/sys/module"
BTF = "/sys/kernel/btf"  # commit 36e68442d1af ("bpf: Load and verify kernel module BTFs"), in v5.11
LIB = f"/lib/modules/{os.uname().release}"
NO_BTF = "this kernel has no BTF of its modules (Linux 5.11, CONFIG_DEBUG_INFO_BTF_MODULES)"


def loaded(proc: str = PROC, sys: str = SYS) -> dict[str, int]:
    """Return the names of the modules that are loaded, initialised and not being unloaded.

    Each has the inode of its directory in sysfs, which changes when it is loaded again.
    """
    inodes = {}
    with suppress(OSError):  # a kernel without modules, or /proc hides them
        # "veth 45056 0 - Live 0x0000000000000000"
        for line in Path(proc).read_text().splitlines():
            name, _, _, _, state, *_ = line.split()
            if state == "Live":
                with suppress(OSError):  # it is being unloaded at this moment
                    inodes[name] = os.stat(f"{sys}/{name}").st_ino
    return inodes


def btf_path(module: str) -> str:
    """Return the path of the module's BTF, if it has any: split BTF, based on that of vmlinux."""
    return f"{BTF}/{module}"


def without_btf(modules: Iterable[str], btf: str = BTF) -> list[str]:
    """Return the modules that have no BTF."""
    return [module for module in modules if not os.path.exists(f"{btf}/{module}")]


def resolve(wanted: tuple[str, ...], sys: str = SYS, lib: str = LIB, btf: str = BTF, proc: str = PROC) -> list[str]:
    """Return `modules` by their names in the kernel (`nf-tables` is nf_tables).

    Raises PwruError for one that is not loaded, with the reason, and for one without BTF.
    """
    names = list(dict.fromkeys(map(_name, wanted)))
    loaded_modules = list(loaded(proc, sys))
    for name in names:
        if name not in loaded_modules:
            raise PwruError(f"`modules` {name}: {_not_loaded(name, loaded_modules, sys, lib)}")
    for name in without_btf(names, btf):
        if len(without_btf(loaded_modules, btf)) == len(loaded_modules):
            raise PwruError(f"`modules` {name}: {NO_BTF}, so what its functions have as arguments is not known")
        raise PwruError(f"`modules` {name}: the module is built without BTF, so its functions' arguments are not known")
    return names


def _name(text: str) -> str:
    return text.replace("-", "_")


def _not_loaded(name: str, loaded_modules: list[str], sys: str, lib: str) -> str:
    """Return why this module is not loaded, and what to do."""
    if name in _listed(f"{lib}/modules.builtin"):
        return "it is built into this kernel and traced without this flag; leave it out"
    loadable = _listed(f"{lib}/modules.dep")
    if name in loadable:
        return f"it is not loaded; load it (modprobe {name}), or use `all_modules` to attach when it is loaded"
    if os.path.exists(f"{sys}/{name}"):
        return "it is no loaded module, but a part of this kernel, or is being loaded or unloaded right now"
    hint = near(name, loaded_modules) or near(name, loadable)
    return "there is no such module" + (hint and f"; {hint}")


def _listed(path: str) -> list[str]:
    """Return the modules in a file of depmod(8): "kernel/drivers/net/veth.ko.xz: …"; none without that file."""
    try:
        text = Path(path).read_text()
    except OSError:
        return []
    return [_name(os.path.basename(line.partition(":")[0]).partition(".ko")[0]) for line in text.splitlines()]
