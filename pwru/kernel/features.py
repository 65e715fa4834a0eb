"""Features of this kernel, and what it permits: tests for presence, never for a version."""

import os
from pathlib import Path

from pwru.errors import PwruError
from pwru.kernel.btf import FUNC, STRUCT, Btf

INIT_ROOT = "/proc/1/root"  # `ip netns exec` mounts a /sys without tracefs and debugfs; init has them
# The same file system each time; since v4.1 it need not be below debugfs: Documentation/trace/ftrace.rst.
TRACEFS = tuple(f"{root}/sys/kernel/{path}" for root in ("", INIT_ROOT) for path in ("tracing", "debug/tracing"))
LOCKDOWN = "/sys/kernel/security/lockdown"
KPROBES_ENABLED = "/sys/kernel/debug/kprobes/enabled"
CONFIDENTIALITY = "confidentiality"  # the mode in which nobody may read the kernel's memory

# Numbers of include/uapi/linux/capability.h.
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
# To load tracing programs and attach them. Whether CAP_SYSLOG is needed, too, depends on sysctls: see Kallsyms.
NEEDED = ("CAP_BPF", "CAP_PERFMON")
# Before v5.8 both were parts of CAP_SYS_ADMIN, which still implies them: commits a17b53c4a4b5 ("bpf, capability:
# Introduce CAP_BPF") and 980737282232 ("capabilities: Introduce CAP_PERFMON ...").


def missing_capabilities(names: tuple[str, ...] = NEEDED, status: str = "/proc/self/status") -> list[str]:
    """Return those of these capabilities that are not effective in this process. Raises PwruError without /proc."""
    effective = int(_status("CapEff", status) or "0", 16)

    def has(name: str) -> bool:
        return bool(effective >> CAPABILITIES[name] & 1)

    return [name for name in names if not has(name) and not (name in NEEDED and has("CAP_SYS_ADMIN"))]


def _status(field: str, path: str) -> str | None:
    """Return a field of proc_pid_status(5), or None. Raises PwruError without /proc."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise PwruError(
            f"cannot read {path} ({error.strerror}): mount /proc (mount -t proc proc /proc), or run it on the host"
        ) from None
    return next((line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:")), None)


def has_seccomp_filter(status: str = "/proc/self/status") -> bool:
    """Return whether a seccomp filter decides about the system calls of this process: seccomp(2)."""
    return _status("Seccomp", status) == "2"


def in_user_namespace(uid_map: str = "/proc/self/uid_map") -> bool:
    """Return whether this is not the initial user namespace: in others no capability allows to load BPF programs."""
    try:
        return Path(uid_map).read_text().split() != ["0", "0", "4294967295"]
    except OSError:  # a kernel without CONFIG_USER_NS, or no /proc
        return False


def tracefs(candidates: tuple[str, ...] = TRACEFS) -> Path | None:
    """Return where tracefs is mounted and readable, for this process or for init."""
    return next((Path(path) for path in candidates if os.access(f"{path}/events", os.R_OK | os.X_OK)), None)


def lockdown(path: str = LOCKDOWN) -> str | None:
    """Return `none`, `integrity` or `confidentiality`; None without lockdown in the kernel, or without securityfs.

    "none [integrity] confidentiality": commit 000d388ed3bb ("security: Add a static lockdown policy LSM"), in v5.4.
    """
    try:
        text = Path(path).read_text()
    except OSError:
        return None
    return next((mode[1:-1] for mode in text.split() if mode.startswith("[")), None)


def ftrace_enabled(path: str = "/proc/sys/kernel/ftrace_enabled") -> bool:
    """Return whether functions call their tracers: fprobes, trampolines, and kprobes at the start of a function.

    Attaching to them works all the same. Documentation/trace/ftrace.rst, "ftrace_enabled".
    """
    return _switch(path)


def kprobes_enabled(path: str = KPROBES_ENABLED) -> bool:
    """Return whether kprobes are armed: Documentation/trace/kprobes.rst, "The kprobes debugfs interface"."""
    return _switch(path)


def jit_enabled(path: str = "/proc/sys/net/core/bpf_jit_enable") -> bool:
    """Return whether BPF programs are compiled. If not, they cannot call functions of the kernel."""
    return _switch(path)


def _switch(path: str) -> bool:
    """Return whether a switch of the kernel is on; True if it cannot be read."""
    try:
        return Path(path).read_text().strip() != "0"
    except OSError:
        return True


def charges_memlock(btf: Btf) -> bool:
    """Return whether BPF memory counts against RLIMIT_MEMLOCK.

    Since v5.11 it counts against the cgroup: commit 3ac1f01b43b6 ("bpf: Eliminate rlimit-based memory accounting for
    bpf progs"). The helper came in the same release, which is how libbpf tells, too.
    """
    return "BPF_FUNC_ktime_get_coarse_ns" not in (btf.enum("bpf_func_id") or {}).values()


def raw_tracepoint_cookie(btf: Btf) -> bool:
    """Return whether links to raw tracepoints have cookies.

    Since v6.10: commit 68ca5d4eebb8 ("bpf: support BPF cookie in raw_tracepoint (raw_tp, tp_btf) programs").
    """
    link = btf.struct("bpf_raw_tp_link")
    return link is not None and any(member.name == "cookie" for member in link.members)


def rdonly_cast(btf: Btf) -> list[int]:
    """Return the ids of the kfunc bpf_rdonly_cast() and of a struct of 128 bytes to cast to; [] if one is missing.

    Since v6.2: commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast").
    """
    kfunc, struct = btf.find("bpf_rdonly_cast", FUNC), btf.find("__kernel_sockaddr_storage", STRUCT)
    return [] if kfunc is None or struct is None else [kfunc, struct]
