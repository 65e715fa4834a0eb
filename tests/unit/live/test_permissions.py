"""Who refuses a system call, by the answer to arguments that no kernel accepts."""

from __future__ import annotations

import errno
import os

import pytest

from pwru import libbpf
from pwru.ebpf import BPF_FUNC_probe_read_kernel
from pwru.kernel import features
from pwru.libbpf import syscalls
from pwru.live.permissions import may_read_memory, refused_call


@pytest.mark.parametrize(
    ("number", "filtered", "said"),
    [
        (errno.EINVAL, True, None),
        (errno.EINVAL, False, None),
        (errno.ENOSYS, True, "by a seccomp filter"),
        (errno.EACCES, True, "by a seccomp filter"),
        (errno.ENOSYS, False, "built without CONFIG_BPF_SYSCALL, or a sandbox"),
        (errno.EPERM, False, "by a security module"),
    ],
)
def test_refused_call(number: int, filtered: bool, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "refusal", lambda _name: OSError(number, ""))
    monkeypatch.setattr(features, "has_seccomp_filter", lambda: filtered)
    line = refused_call("bpf")
    assert said in line if said else line == ""


@pytest.mark.parametrize(
    ("mode", "number", "may"),
    [
        ("none", None, True),
        ("integrity", None, True),
        ("confidentiality", None, False),
        (None, 0, True),
        (None, errno.EINVAL, False),  # there is no such helper
        (None, errno.EPERM, True),  # something else is wrong
    ],
)
def test_may_read_memory(mode: str | None, number: int | None, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is loaded only if the kernel does not say its mode."""

    def prog_load(_type: int, insns: bytes) -> int:
        assert number is not None
        assert BPF_FUNC_probe_read_kernel in insns[4::8]
        if number:
            raise OSError(number, "")
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(features, "lockdown", lambda: mode)
    monkeypatch.setattr(libbpf, "prog_load", prog_load)
    assert may_read_memory() is may
