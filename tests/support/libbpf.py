"""What tests do with libbpf's programs and the product does not."""

from __future__ import annotations

import struct

from pwru.libbpf import syscalls

_BPF_PROG_TEST_RUN = 10  # enum bpf_cmd, include/uapi/linux/bpf.h


def prog_test_run(fd: int) -> None:
    """Run a program of type SYSCALL once, without a context."""
    syscalls.bpf(_BPF_PROG_TEST_RUN, struct.pack("=I76x", fd))
