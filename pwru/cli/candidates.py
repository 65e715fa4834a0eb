"""Values that a shell offers for a flag: what this machine has.

Each function gets the part of the value that is there and the flags before it, and returns words, those that do not
begin so included, with a few words about each or "". It needs no root as far as others may know; what cannot be read
raises PwruError or OSError.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pwru.cli.values import PROTOCOLS
from pwru.errors import PwruError

Given = Mapping[str, Any]
_PROC = "/proc"
_PACKET = "sk_buff"
_LEAST = 2  # letters, before functions are offered from among all of the kernel's


def files(begun: str, _: Given) -> dict[str, str]:
    """Return paths; folders end with a slash."""
    folder, slash, name = begun.rpartition("/")
    with os.scandir(os.path.expanduser(folder + slash) or ".") as entries:
        return {
            f"{folder}{slash}{entry.name}{'/' * os.path.isdir(entry.path)}": ""
            for entry in entries
            if entry.name.startswith(name) and (name or not entry.name.startswith("."))
        }


def netns(begun: str, given: Given) -> dict[str, str]:
    from pwru.kernel.netns import names

    if "/" in begun:
        return files(begun, given)
    return {name: str(inode) for inode, name in names().items()}


def interfaces(_: str, given: Given) -> dict[str, str]:
    from pwru.kernel import netns as namespaces

    return _plain(namespaces.interfaces(given.get("--filter-netns")))


def pids(_: str, __: Given) -> dict[str, str]:
    return dict(_processes())


def comms(_: str, __: Given) -> dict[str, str]:
    return _plain(comm for _, comm in _processes())


def users(_: str, __: Given) -> dict[str, str]:
    import pwd

    return {user.pw_name: user.pw_gecos.partition(",")[0] for user in pwd.getpwall()}


def switch(_: str, __: Given) -> dict[str, str]:
    return {"true": "", "false": ""}


def protocols(_: str, __: Given) -> dict[str, str]:
    return _plain(PROTOCOLS.split(", "))


def only(_: str, __: Given) -> dict[str, str]:
    from pwru.record.wrong import WORDS

    return _plain(f"{word}=5ms" if word == "slower" else word for word in WORDS)


def modules(_: str, __: Given) -> dict[str, str]:
    """Return the modules whose functions can be traced."""
    from pwru.kernel.modules import loaded, without_btf

    there = loaded()
    return _plain(there.keys() - without_btf(there))


def drop_reasons(_: str, __: Given) -> dict[str, str]:
    from pwru.kernel.kernel import Kernel

    return _plain(Kernel().drop_reasons.all())


def functions(_: str, given: Given) -> dict[str, str]:
    """Return the functions, or tracepoints, that take a packet, with those of the modules that are given.

    If root has traced on this kernel before, functions of the kernel itself are only those that can be traced.
    """
    from pwru.kernel.btf import functions as of_btf
    from pwru.kernel.btf import tracepoints
    from pwru.kernel.kernel import Kernel

    kernel = Kernel(remember=True)
    if given.get("--backend") == "tracepoint":
        return _plain(tracepoint.name for tracepoint in tracepoints(kernel.btf, _PACKET))
    if known := kernel.facts.get("functions"):
        targets, _ = known
        names = {name for name, *_ in targets}
    else:
        names = {function.name for function in of_btf(kernel.btf, _PACKET)}
    for module in given.get("--kmods") or ():
        with suppress(PwruError):  # it is not loaded
            names |= {function.name for function in of_btf(kernel.module_btf(module), _PACKET)}
    return _plain(names)


def all_functions(begun: str, _: Given) -> dict[str, str]:
    """Return functions of the kernel, if it is known how they begin."""
    from pwru.kernel.btf import FUNC, vmlinux_btf

    if len(begun) < _LEAST:
        return {}
    btf = vmlinux_btf()
    return _plain(map(btf.string, btf.column(0, btf.prefixed(begun.encode(), FUNC))))


def _plain(words: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(sorted(words), "")


def _processes() -> Iterator[tuple[str, str]]:
    """Yield the PID and the name of each process."""
    for folder in Path(_PROC).glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            yield folder.name, (folder / "comm").read_text(errors="replace").removesuffix("\n")


CANDIDATES: dict[str, Callable[[str, Given], dict[str, str]]] = {
    find.__name__: find
    for find in (
        files,
        netns,
        interfaces,
        pids,
        comms,
        users,
        switch,
        protocols,
        only,
        modules,
        drop_reasons,
        functions,
        all_functions,
    )
}
