"""What several tests read: BTF with packets in it, and files."""

from __future__ import annotations

from pathlib import Path

from pwru.kernel.btf import Btf, Function, functions
from tests.unit.kernel.btf_writer import Writer

DATA = Path(__file__).parent / "data"
KALLSYMS = DATA / "kallsyms"


class Sample(Writer):
    """The types that functions with packets are made of."""

    def __init__(self, base: Writer | None = None) -> None:
        super().__init__(base)
        if base is None:
            self.u32 = self.integer("unsigned int", 4)
            self.skb = self.struct("sk_buff", 8, ("len", self.u32, 0), ("mark", self.u32, 32))
            self.pskb = self.ref("PTR", self.skb)
            self.ppskb = self.ref("PTR", self.pskb)
            self.pvoid = self.ref("PTR", 0)
            self.reason = self.enum("skb_drop_reason", ("SKB_NOT_DROPPED_YET", 0), ("SKB_CONSUMED", 1))

    def functions(self) -> list[Function]:
        return functions(Btf(self.data()), "sk_buff")


def add_tracepoint(sample: Sample, name: str, *arguments: int) -> None:
    sample.ref("TYPEDEF", sample.ref("PTR", sample.proto(sample.pvoid, *arguments)), f"btf_trace_{name}")


def rich() -> bytes:
    sample = Sample()
    add_tracepoint(sample, "kfree_skb", sample.pskb, sample.pvoid, sample.reason)
    sample.func("ip_rcv", sample.pskb, ("reason", sample.reason), 0)
    sample.func("const", sample.ref("PTR", sample.ref("CONST", sample.skb)))
    anonymous = sample.struct("", 8, ("y", sample.array(sample.u32, sample.u32, 2), 0))
    sample.bitfields("outer", 16, ("x", sample.u32, 0, 4), ("", anonymous, 32, 0), ("p", sample.ppskb, 64, 0))
    return sample.data()
