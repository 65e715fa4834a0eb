"""Loads from kernel addresses in the eBPF of filters. Any address may be tried; what cannot be read is 0."""

from typing import NamedTuple

from pwru.ebpf import R0, R1, R2, R3, R10, Alu, Assembler, BPF_FUNC_probe_read_kernel, Reg, Size


class RdonlyCast(NamedTuple):
    """The ids, in vmlinux BTF, of bpf_rdonly_cast() and of a struct to cast to.

    The struct is `struct __kernel_sockaddr_storage`. Inside an array of integers, such as its __data, the verifier
    allows loads of any size at any offset (btf_struct_walk() in kernel/bpf/btf.c).
    """

    kfunc_id: int
    struct_id: int


# Of __data in struct __kernel_sockaddr_storage, ABI (include/uapi/linux/socket.h): 128 bytes without 2 for the family.
# Without a cast, too, this is what is read of a packet in one piece.
ARRAY_OFFSET, ARRAY_SIZE = 2, 126


def address_register(cast: RdonlyCast | None) -> Reg:
    """Return the register in which load() takes the address."""
    return R1 if cast else R3


def cast_offset(cast: RdonlyCast | None) -> int:
    """Return how far before the loaded value the address must point."""
    return ARRAY_OFFSET if cast else 0


def call_cast(asm: Assembler, cast: RdonlyCast) -> None:
    """Cast the address in r1, to r0.

    The verifier inlines it: since v6.2, commit a35b9af4ec2c ("bpf: Add a kfunc for generic type cast").
    """
    asm.alu32(Alu.MOV, R2, cast.struct_id)
    asm.call_kfunc(cast.kfunc_id)


def load(asm: Assembler, cast: RdonlyCast | None, size: Size, register: Reg) -> None:
    """Load from the address in address_register(), which points cast_offset() before the value.

    With `cast` directly, else by a helper. Destroys r0 to r5 and the 8 bytes below r10.
    """
    if cast:
        call_cast(asm, cast)
        asm.load(size, register, R0, ARRAY_OFFSET)
    else:
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, -8)
        asm.alu32(Alu.MOV, R2, size.nbytes)
        asm.call(BPF_FUNC_probe_read_kernel)
        asm.load(size, register, R10, -8)
