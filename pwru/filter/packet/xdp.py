"""The packet filter on a struct xdp_buff: the body of `int filter_xdp(__u64 xdp)` in bpf/filter.bpf.h.

The packet begins at `data` with its link-layer header, and all of it that can be read ends at `data_end`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pwru.ebpf import R0, R1, R7, R8, R10, Alu, Assembler, Jump, Label, Reg, Size
from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast, address_register, cast_offset, load
from pwru.kernel.btf import Btf

from . import Insn
from .classic import loads_len
from .skb import encode
from .translate import CAPLEN, LEN, Body


class Layout(NamedTuple):
    """Offsets in struct xdp_buff."""

    data: int
    data_end: int


def xdp_layout(btf: Btf) -> list[int]:
    """Return the offsets as JSON can hold them. Raises PwruError if the BTF lacks one."""
    xdp = btf.struct("xdp_buff")
    members = [xdp.member(name) if xdp else None for name in Layout._fields]
    if not all(members):
        raise PwruError("`trace_xdp`: this kernel's BTF does not say where the packet of a struct xdp_buff is")
    return [member.offset for member in members if member]


def filter_xdp(insns: Sequence[Insn], layout: Sequence[int], cast: RdonlyCast | None) -> bytes:
    """Return the instructions for a program that expects a link-layer header. `layout`: see xdp_layout()."""
    asm, body, offsets, reject = Assembler(), Body(insns, cast), Layout(*layout), Label()
    xdp, data = R7, R8

    def field(register: Reg, offset: int) -> None:
        address = address_register(cast)
        asm.alu64(Alu.MOV, address, xdp)
        asm.alu64(Alu.ADD, address, offset - cast_offset(cast))
        load(asm, cast, Size.DW, register)

    asm.alu64(Alu.MOV, xdp, R1)
    field(data, offsets.data)
    field(CAPLEN, offsets.data_end)
    asm.jump64(Jump.LT, CAPLEN, data, reject)
    asm.alu64(Alu.SUB, CAPLEN, data)
    if loads_len(insns):
        asm.store(Size.W, R10, LEN, CAPLEN)
    asm.alu64(Alu.MOV, R1, data)
    body.emit(asm, reject, lambda: None)
    if reject.index is None:
        asm.place(reject)
        asm.alu32(Alu.MOV, R0, 0)
        asm.exit()
    return encode(asm)
