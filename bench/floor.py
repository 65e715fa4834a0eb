"""pwru with another program in place of its own, `empty` or `loads`: the least that a probe hit can cost.

`empty` does nothing. `loads` has only what the packet filter `host 192.0.2.77` needs in a function whose first
argument is an skb with its link-layer header: four loads, through casts, that find the addresses, and the comparison.
"""

import sys

from pwru import cli, libbpf
from pwru.ebpf import R0, R1, R2, Alu, Assembler, Jump, Label, Size
from pwru.filter.load import ARRAY_OFFSET, RdonlyCast, call_cast
from pwru.filter.packet import skb as packet
from pwru.kernel import features
from pwru.kernel.btf import vmlinux_btf
from pwru.live import loader

_DI = 112  # in struct pt_regs of x86-64: the first argument
_ETHERTYPE, _SADDR = 12, 26
_HOST = int.from_bytes(bytes((192, 0, 2, 77)), "little", signed=True)


def empty() -> bytes:
    asm = Assembler()
    asm.alu64(Alu.MOV, R0, 0)
    asm.exit()
    return asm.code()


def loads() -> bytes:
    btf = vmlinux_btf()
    asm, cast, layout = Assembler(), RdonlyCast(*features.rdonly_cast(btf)), packet.Layout(*packet.skb_layout(btf))
    reject, accept = Label(), Label()
    asm.load(Size.DW, R1, R1, _DI)
    asm.alu64(Alu.ADD, R1, layout.network_header - ARRAY_OFFSET)
    call_cast(asm, cast)
    asm.load(Size.DW, R2, R0, ARRAY_OFFSET)  # with mac_header in bits 16 to 31
    asm.load(Size.DW, R1, R0, ARRAY_OFFSET + layout.head - layout.network_header)
    asm.alu32(Alu.RSH, R2, 16)
    asm.alu32(Alu.AND, R2, 0xFFFF)
    asm.alu64(Alu.ADD, R1, R2)
    call_cast(asm, cast)
    asm.load(Size.H, R1, R0, _ETHERTYPE)
    asm.jump32(Jump.NE, R1, 0x0008, reject)  # 0x0800 in the packet's byte order
    asm.load(Size.DW, R1, R0, _SADDR)
    asm.jump32(Jump.EQ, R1, _HOST, accept)
    asm.alu64(Alu.RSH, R1, 32)
    asm.jump32(Jump.EQ, R1, _HOST, accept)
    for label, verdict in ((reject, 0), (accept, 1)):
        asm.place(label)
        asm.alu64(Alu.MOV, R0, verdict)
        asm.exit()
    return asm.code()


class Floor(libbpf.Program):
    """The program that is measured."""

    def __init__(self, attach_type: int) -> None:
        self._floor = libbpf.prog_load(libbpf.BPF_PROG_TYPE_KPROBE, INSNS, expected_attach_type=attach_type)

    @property
    def fd(self) -> int:
        return self._floor


class Object(libbpf.Object):
    """The product's object, with the other program once it is loaded."""

    is_loaded = False
    floor: Floor | None = None

    def load(self) -> None:
        super().load()
        self.is_loaded = True

    def program(self, name: str) -> libbpf.Program:
        if not self.is_loaded:
            return super().program(name)
        self.floor = self.floor or Floor(libbpf.BPF_TRACE_KPROBE_MULTI if "multi" in name else 0)
        return self.floor


if __name__ == "__main__":
    INSNS = {"empty": empty, "loads": loads}[sys.argv.pop(1)]()
    vars(loader)["Object"] = Object
    sys.exit(cli.main())
