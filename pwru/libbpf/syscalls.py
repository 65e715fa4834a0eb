"""System calls that libc has no function for."""

import ctypes
import os

# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_NUMBERS = {
    "x86_64": {"bpf": 321, "perf_event_open": 298, "membarrier": 324, "fsopen": 430, "fsconfig": 431, "fsmount": 432},
    "aarch64": {"bpf": 280, "perf_event_open": 241, "membarrier": 283, "fsopen": 430, "fsconfig": 431, "fsmount": 432},
}

_PERF_FLAG_FD_CLOEXEC = 8  # include/uapi/linux/perf_event.h
_MEMBARRIER_CMD_GLOBAL = 1  # include/uapi/linux/membarrier.h
# Arguments that no kernel accepts, whoever calls with CAP_BPF and CAP_PERFMON: an unknown command, unknown flags.
_SENSELESS = {"bpf": (-1, 0, 0), "perf_event_open": (0, 0, 0, 0, -1)}
# include/uapi/linux/mount.h
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_NOEXEC = 2, 4, 8


def bpf(command: int, attr: bytes) -> int:
    """Call bpf(2); `attr` is a union bpf_attr, and what the kernel writes to it is lost."""
    return _call("bpf", command, attr, len(attr))


def perf_event_open(attr: bytes, *, pid: int, cpu: int) -> int:
    """Return the descriptor of a perf event of its own group, perf_event_open(2)."""
    return _call("perf_event_open", attr, pid, cpu, -1, _PERF_FLAG_FD_CLOEXEC)


def membarrier() -> None:
    """Wait for an RCU grace period, membarrier(2). It is refused where CPUs must not be disturbed (nohz_full)."""
    _call("membarrier", _MEMBARRIER_CMD_GLOBAL, 0, 0)


def refusal(name: str) -> OSError:
    """Make this call with senseless arguments: EINVAL is the kernel's answer, another that of what stands before it.

    Without a number where the number of the call is not known.
    """
    if os.uname().machine not in _NUMBERS:
        return OSError()
    try:
        _call(name, *_SENSELESS[name])
    except OSError as error:
        return error
    return OSError()


def mount(fs_type: str) -> int:
    """Mount a file system at no place; return the descriptor of its root. Closing it unmounts it. Since v5.2."""
    fs = _call("fsopen", fs_type.encode() + b"\0", _FSOPEN_CLOEXEC)
    try:
        _call("fsconfig", fs, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        flags = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | _MOUNT_ATTR_NOEXEC
        return _call("fsmount", fs, _FSMOUNT_CLOEXEC, flags)
    finally:
        os.close(fs)


def _call(name: str, *arguments: int | bytes) -> int:
    """Make the call; raises OSError if it fails."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    number = ctypes.c_long(_NUMBERS[os.uname().machine][name])
    words = (
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.create_string_buffer(argument, len(argument))
        for argument in arguments
    )
    result = int(function(number, *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
