"""BTF, the kernel's type information: Documentation/bpf/btf.rst and include/uapi/linux/btf.h."""

from pwru.kernel.btf.load import VMLINUX, elf_section, read_btf, vmlinux_btf
from pwru.kernel.btf.packets import Function, Tracepoint, functions, no_trampoline, tracepoints
from pwru.kernel.btf.records import ARRAY, CONST, ENUM, ENUM64, FUNC, FWD, INT, PTR, STRUCT, TYPEDEF, UNION, BtfError
from pwru.kernel.btf.types import Btf, Member, Struct, Type

__all__ = [
    "ARRAY", "CONST", "ENUM", "ENUM64", "FUNC", "FWD", "INT", "PTR", "STRUCT", "TYPEDEF", "UNION", "VMLINUX",
    "Btf", "BtfError", "Function", "Member", "Struct", "Tracepoint", "Type",
    "elf_section", "functions", "no_trampoline", "read_btf", "tracepoints", "vmlinux_btf",
]  # fmt: skip
