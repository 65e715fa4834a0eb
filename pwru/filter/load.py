"""Loads from kernel addresses in the eBPF of filters: any address may be tried, and what cannot be read is 0."""

from __future__ import annotations

from typing import NamedTuple

from pwru.ebpf import R0, R1, R2, R3, R10, Alu, Assembler, BPF_FUNC_probe_read_kernel, Reg, Size


class Cast(NamedTuple):
    """Where the kernel has bpf_rdonly_cast(): ids in vmlinux BTF of that function and of a struct to cast to.

    That is `struct __kernel_sockaddr_storage`: an array of 126 bytes after the first two. Inside an array of integers
    the verifier takes loads of any size at any place (btf_struct_walk() in kernel/bpf/btf.c).
    """

    kfunc_id: int
    struct_id: int


ARRAY_AT, ARRAY_SIZE = 2, 126


def address_register(cast: Cast | None) -> Reg:
    """Where load() wants the address."""
    return R1 if cast else R3


def lead(cast: Cast | None) -> int:
    """How far before what is to be loaded the address has to be."""
    return ARRAY_AT if cast else 0


def call_cast(asm: Assembler, cast: Cast) -> None:
    """Of the address in r1, to r0. The verifier inlines it: since v6.2, commit a35b9af4ec2c ("bpf: Add a kfunc for
    generic type cast")."""
    asm.alu32(Alu.MOV, R2, cast.struct_id)
    asm.call_kfunc(cast.kfunc_id)


def load(asm: Assembler, cast: Cast | None, size: Size, register: Reg) -> None:
    """From the address in address_register(), lead() before the value; r0 to r5 and the 8 bytes below r10 are lost.

    With `cast` directly, without it by a helper.
    """
    if cast:
        call_cast(asm, cast)
        asm.load(size, register, R0, ARRAY_AT)
    else:
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, -8)
        asm.alu32(Alu.MOV, R2, size.nbytes)
        asm.call(BPF_FUNC_probe_read_kernel)
        asm.load(size, register, R10, -8)
