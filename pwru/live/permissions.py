"""Whether this process may trace, and if not, who says no and where to change that."""

from __future__ import annotations

import errno
import os

from pwru import libbpf
from pwru.ebpf import RETURN_0, read_memory
from pwru.errors import PwruError
from pwru.kernel import features
from pwru.libbpf import syscalls

_DENIED = (errno.EPERM, errno.EACCES, errno.ENOSYS)
# The part of the kernel without which it has no such system call.
_OPTIONS = {"bpf": "CONFIG_BPF_SYSCALL", "perf_event_open": "CONFIG_PERF_EVENTS"}


def check_permitted() -> None:
    """Raise PwruError if this process may not trace."""
    if features.in_user_namespace():
        raise PwruError("not permitted in a user namespace; run it as root on the host")
    missing = features.missing_capabilities()
    if missing:
        help_ = "; run it as root (sudo pwru …)"
        if os.geteuid() == 0:
            help_ = ", even for root; add them to the container or service (--cap-add), or run it on the host"
        raise PwruError(f"not permitted: {' and '.join(missing)} missing{help_}")
    if refusal := refused_call("bpf"):
        raise PwruError(refusal)


def may_read_memory() -> bool:
    """Return whether the kernel lets BPF programs call bpf_probe_read_kernel(): LOCKDOWN_BPF_READ_KERNEL.

    Each time it does not, the kernel writes a message to its log, so it is asked only if it does not say its mode.
    """
    mode = features.lockdown()
    if mode is not None:
        return mode != features.CONFIDENTIALITY
    try:
        os.close(libbpf.prog_load(libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, read_memory()))
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def refused_load() -> str:
    """Return why even the smallest map or program is refused; "" if they are not, and the reason is in the object."""
    what = "map"
    try:
        os.close(libbpf.map_create_array(bytes(8)))
        what = "program"
        os.close(libbpf.prog_load(libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, RETURN_0))
    except OSError as error:
        if error.errno in _DENIED:
            return f"any BPF {what} is refused ({os.strerror(error.errno)}){_by_whom()}"
    return ""


def refused_call(name: str) -> str:
    """Return who refuses a system call whatever its arguments are, and what to do; "" if the kernel gets to see them.

    It is called with arguments that the kernel refuses before it checks any permission.
    """
    error = syscalls.refusal(name)
    if error.errno not in _DENIED:
        return ""
    reason = f"{name}() is refused ({os.strerror(error.errno)})"
    if error.errno == errno.ENOSYS and not features.has_seccomp_filter():
        return f"{reason}: this kernel is built without {_OPTIONS[name]}, or a sandbox stands in for it"
    return reason + _by_whom()


def _by_whom() -> str:
    """Return who must be refusing what the capabilities permit, and what to do."""
    if features.has_seccomp_filter():
        return (
            " by a seccomp filter; allow it in the seccomp profile of the container (--security-opt seccomp=unconfined,"
            " or --privileged) or of the service (SystemCallFilter=)"
        )
    return " by a security module (SELinux, AppArmor, BPF LSM, …); its log says why (dmesg, ausearch -m avc)"
