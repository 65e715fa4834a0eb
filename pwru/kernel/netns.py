"""Network namespaces by path or inode, and the interfaces in them."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import TypeVar

from pwru.errors import PwruError, near

NAMED = "/run/netns"  # where ip-netns(8) keeps names; /var/run is a link to /run
PROC = "/proc"

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2), since v4.11
_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


def current_netns() -> int:
    """Return the inode of this process's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def resolve_netns(spec: str) -> int:
    """Return the inode of a network namespace given as a path (/proc/PID/ns/net, /run/netns/NAME) or `inode:N`.

    Or as it is printed: N, or NAME. Raises PwruError if it is not a network namespace; an inode is not checked.
    """
    spec = _spelled_out(spec)
    if spec.startswith("inode:"):
        return _inode(spec)
    fd = _open(spec)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def unseen(spec: str) -> bool:
    """Return whether `spec` is an inode of which neither a process nor a name can be seen: it may be a mistake."""
    spec = _spelled_out(spec)
    try:
        return spec.startswith("inode:") and not _path_of(_inode(spec))
    except PwruError:
        return True


def ifindex(name: str, netns: str | None = None) -> int:
    """Return the index of an interface in this namespace, or the current one; altnames of up to 15 characters count.

    `name` may be as it is printed, NAME:INDEX or INDEX, or as ip(8) prints it, NAME@PEER. Raises PwruError with near
    names if it does not exist.
    """
    from socket import if_nameindex, if_nametoindex

    def look_up() -> int | list[str]:
        if ":" not in name:  # which the kernel would cut off: dev_ioctl()
            for spelled in (name, name.partition("@")[0]):
                with suppress(OSError):
                    return if_nametoindex(spelled)
        interfaces = if_nameindex()
        printed = (index for index, existing in interfaces if _is_printed(name, existing, index))
        return next(printed, None) or [existing for _, existing in interfaces]

    index_or_names = _inside(netns, look_up)
    if isinstance(index_or_names, int):
        return index_or_names
    where = f"network namespace {netns}" if netns else "this network namespace"
    known = sorted(other for other in index_or_names if other.isprintable())
    hint = near(name.partition(":")[0], known) or f"there is {', '.join(known[:10])}"
    raise PwruError(f"there is no interface {name} in {where}; {hint}")


def interfaces(netns: str | None = None) -> list[str]:
    """Return the names of the interfaces in this namespace, or the current one. Raises PwruError."""
    from socket import if_nameindex

    return [name for _, name in _inside(netns, if_nameindex)]


def names() -> dict[int, str]:
    """Return the names of network namespaces in NAMED by inode; the first one if a namespace has several."""
    by_inode: dict[int, str] = {}
    for path in sorted(Path(NAMED).glob("*")):
        with suppress(OSError):  # it is gone
            by_inode.setdefault(path.stat().st_ino, path.name)
    return by_inode


def _is_printed(text: str, name: str, index: int) -> bool:
    """Return whether an interface is printed so: NAME:INDEX, which may be cut as in ~AME:INDEX, or INDEX."""
    whole = f"{name}:{index}"
    return text in (whole, str(index)) or (text.startswith("~") and ":" in text and whole.endswith(text[1:]))


def _spelled_out(spec: str) -> str:
    """Return a path or `inode:N` for what is neither, but a name in NAMED or a number, as both are printed."""
    if not spec or "/" in spec or spec.startswith("inode:") or os.path.exists(spec):
        return spec
    if os.path.exists(named := f"{NAMED}/{spec}"):
        return named
    return f"inode:{spec}" if spec.isascii() and spec.isdigit() else spec


def _inode(spec: str) -> int:
    digits = spec.removeprefix("inode:")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and 1 <= int(digits) < 1 << 32):
        raise PwruError(f"network namespace {spec}: the inode has to be a number, as in inode:4026531840")
    return int(digits)


def _open(spec: str) -> int:
    """Return a descriptor of the namespace that `spec`, which is spelled out, names."""
    path = _path_of(_inode(spec)) if spec.startswith("inode:") else spec
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = near(spec.removeprefix(f"{NAMED}/"), names().values())
        raise PwruError(f"network namespace {spec or repr('')}: {error.strerror}{hint and f'; {hint}'}") from None
    try:
        ns_type = ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        ns_type = 0
    if ns_type != _CLONE_NEWNET:
        os.close(fd)
        raise PwruError(f"{spec} is not a network namespace (/proc/PID/ns/net or {NAMED}/NAME is one)")
    return fd


def _path_of(inode: int) -> str:
    """Return a path of the namespace with this inode: by a name of it, or by a process in it."""
    for path in Path(NAMED).glob("*"):
        with suppress(OSError):
            if path.stat().st_ino == inode:
                return str(path)
    for path in Path(PROC).glob("[0-9]*/ns/net"):
        with suppress(OSError):  # the process is gone, or may not be looked at
            if path.readlink().name == f"net:[{inode}]":
                return str(path)
    raise PwruError(f"there is no process in network namespace inode:{inode}, and it has no name in {NAMED}")


def _inside(netns: str | None, ask: Callable[[], _T]) -> _T:
    """Call `ask` in this namespace and return its answer.

    It runs in a thread, which has its own network namespace and nothing to restore when it ends: setns(2).
    """
    if netns is None:
        return ask()
    fd = _open(_spelled_out(netns))
    results: list[_T | OSError] = []

    def run() -> None:
        try:
            _setns(fd)
            results.append(ask())
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    os.close(fd)
    (result,) = results
    if isinstance(result, OSError):
        raise PwruError(f"cannot enter network namespace {netns}: {result.strerror}")
    return result


def _setns(fd: int) -> None:
    """Call setns(2); Python has os.setns() since 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
