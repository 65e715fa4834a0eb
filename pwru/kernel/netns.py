"""Network namespaces by path or inode, and the interfaces in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import TypeVar

from pwru.errors import PwruError

NAMED = "/run/netns"  # ip-netns(8) keeps them there; /var/run is a link to /run
PROC = "/proc"

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2), since v4.11
_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


def current_netns() -> int:
    """The inode of this process's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def resolve_netns(spec: str) -> int:
    """The inode of a network namespace given as a path (/proc/PID/ns/net, /run/netns/NAME) or as `inode:N`.

    Raises PwruError if the path is not one; an inode is taken as it is.
    """
    if spec.startswith("inode:"):
        return _inode(spec)
    fd = _open(spec)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def interfaces(netns: str | None = None) -> dict[int, str]:
    """Names of the interfaces in that namespace, or the current one, by index."""
    from socket import if_nameindex

    return _inside(netns, lambda: dict(if_nameindex()))


def ifindex(name: str, netns: str | None = None) -> int:
    """The index of this interface in that namespace, or the current one; altnames of up to 15 characters count.

    Raises PwruError with near names if there is none.
    """

    from socket import if_nameindex, if_nametoindex

    def look_up() -> int | list[str]:
        try:
            return if_nametoindex(name)
        except OSError:
            return [existing for _, existing in if_nameindex()]

    found = _inside(netns, look_up)
    if isinstance(found, int):
        return found
    from difflib import get_close_matches

    where = f"network namespace {netns}" if netns else "this network namespace"
    known = sorted(other for other in found if other.isprintable())
    near = get_close_matches(name, known, n=3) or known[:10]
    raise PwruError(f"there is no interface {name} in {where}; there is {', '.join(near)}")


def names() -> dict[int, str]:
    """The names that network namespaces have in NAMED, by inode; of several the first."""
    found: dict[int, str] = {}
    for path in sorted(Path(NAMED).glob("*")):
        with suppress(OSError):  # it is gone
            found.setdefault(path.stat().st_ino, path.name)
    return found


def _inode(spec: str) -> int:
    digits = spec.removeprefix("inode:")
    if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) < 1 << 32):
        raise PwruError(f"network namespace {spec}: the inode has to be a number, as in inode:4026531840")
    return int(digits)


def _open(spec: str) -> int:
    """A descriptor of the namespace that `spec` names."""
    path = _path_of(_inode(spec)) if spec.startswith("inode:") else spec
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        named = f"{NAMED}/{spec}"
        hint = f"; did you mean {named}?" if "/" not in spec and os.path.exists(named) else ""
        raise PwruError(f"network namespace {spec}: {error.strerror}{hint}") from None
    try:
        kind = ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        os.close(fd)
        raise PwruError(f"{spec} is not a network namespace (/proc/PID/ns/net or {NAMED}/NAME is one)")
    return fd


def _path_of(inode: int) -> str:
    """A path of the namespace with this inode: a name, or a process in it."""
    for path in Path(NAMED).glob("*"):
        with suppress(OSError):
            if path.stat().st_ino == inode:
                return str(path)
    for path in Path(PROC).glob("[0-9]*/ns/net"):
        with suppress(OSError):  # the process is gone, or not ours to look at
            if path.readlink().name == f"net:[{inode}]":
                return str(path)
    raise PwruError(f"there is no process in network namespace inode:{inode}, and it has no name in {NAMED}")


def _inside(netns: str | None, look: Callable[[], _T]) -> _T:
    """What `look` finds in that namespace.

    A thread has its own network namespace, and one that ends has nothing to restore: setns(2).
    """
    if netns is None:
        return look()
    fd = _open(netns)
    results: list[_T | OSError] = []

    def run() -> None:
        try:
            _setns(fd)
            results.append(look())
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
    """setns(2); os.setns() is there since Python 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
