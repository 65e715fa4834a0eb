"""Conditions on fields of the skb, such as `skb->dev->ifindex == 1 && skb->len > 1000`, as eBPF.

They are the body of `int filter_skb(__u64 skb)` in bpf/filter.bpf.h; those on fields of a frame of XDP, such as
`xdp->rxq->queue_index == 0`, of `int filter_xdp_expr(__u64 xdp)`. They mean what they mean in C, conversions between
signed and unsigned included, but `&` binds tighter than comparisons, as in `skb->mark & 0xff == 1`.

A field is read where this kernel's BTF has it. What cannot be read, because a pointer on the way is NULL or bad, is 0.
"""

from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.kernel.btf import Btf
from pwru.record.parts import Field

from .code import Code
from .fields import KernelFields
from .parse import parse_condition, parse_field
from .tree import SKB, XDP, Mistake, Root

__all__ = "SKB", "XDP", "Root", "compile_condition", "compile_value"


def compile_condition(text: str, btf: Btf, cast: RdonlyCast | None, root: Root = SKB) -> bytes:
    """Return the instructions of a function that takes the address of the root and returns 1 or 0.

    `btf` and `cast` are the kernel's. Raises PwruError that names the column of a mistake.
    """
    try:
        return Code(cast).condition(parse_condition(text, KernelFields(btf, root)))
    except Mistake as mistake:
        raise PwruError(f"`{root.name}_expr`: {mistake}") from None


def compile_value(text: str, btf: Btf, cast: RdonlyCast | None, root: Root = SKB) -> tuple[bytes, Field]:
    """Return the instructions of a function that returns the value of one field of the root, and what the field is."""
    try:
        load = parse_field(text, KernelFields(btf, root))
    except Mistake as mistake:
        raise PwruError(f"`{root.name}_metadata`: {mistake}") from None
    return Code(cast).value(load), Field(load.path, load.type.signed, root.name, load.type.bits)
