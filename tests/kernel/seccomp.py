"""Run a command under a seccomp filter, as a container does: `seccomp.py CALL[/ARG]=ERRNO[,CALL=ERRNO…] COMMAND…`.

With ARG, calls with that number as first argument only. It imports only the standard library, and runs as a script.
"""

import ctypes
import errno
import os
import struct
import sys

# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
NUMBERS = {
    "x86_64": {"bpf": 321, "perf_event_open": 298},
    "aarch64": {"bpf": 280, "perf_event_open": 241},
}[os.uname().machine]
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2  # prctl(2)
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
CALL, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF: BPF_LD | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K


def install(refused: dict[str, int]) -> None:
    """Have the kernel answer these system calls with these error numbers, here and in all children."""
    insns = []
    for words, number in refused.items():
        call, _, argument = words.partition("/")
        refuse = (RETURN, 0, 0, SECCOMP_RET_ERRNO | number)
        refusal = [(LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 0, 1, int(argument)), refuse] if argument else [refuse]
        insns += [(LOAD, 0, 0, CALL), (EQUAL, 0, len(refusal), NUMBERS[call]), *refusal]
    insns.append((RETURN, 0, 0, SECCOMP_RET_ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *insn) for insn in insns))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(insns), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install({call: getattr(errno, name) for call, name in (word.split("=") for word in sys.argv[1].split(","))})
    os.execvp(sys.argv[2], sys.argv[2:])
