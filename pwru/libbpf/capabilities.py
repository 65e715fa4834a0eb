"""What this thread may do: capabilities(7), no_new_privs, and the user it runs as."""

import ctypes
import os

# include/uapi/linux/capability.h: the version with two words a set
_VERSION_3 = 0x20080522
# include/uapi/linux/prctl.h
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 8, 38


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def permitted() -> int:
    """Return the permitted set as a mask: bit 39 is CAP_BPF. Raises OSError."""
    words = (_Word * 2)()
    _checked(_libc().capget(ctypes.byref(_Header(_VERSION_3, 0)), words))
    return int(words[0].permitted | words[1].permitted << 32)


def set_capabilities(effective: int, permitted: int) -> None:
    """Set two masks, and no capability for what is executed: capset(2). Raises OSError."""
    words = (_Word * 2)(*(_Word(effective >> shift & 0xFFFFFFFF, permitted >> shift & 0xFFFFFFFF) for shift in (0, 32)))
    _checked(_libc().capset(ctypes.byref(_Header(_VERSION_3, 0)), words))


def set_no_new_privs() -> None:
    """What is executed from now on gains nothing: PR_SET_NO_NEW_PRIVS(2const). Raises OSError."""
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def become(name: str, uid: int, gid: int) -> None:
    """Become this user, with its groups, and keep the permitted set; none is effective then. Raises OSError."""
    _checked(_libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    try:
        os.initgroups(name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    finally:
        _checked(_libc().prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
