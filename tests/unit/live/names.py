"""Symbols and names of a live trace, without its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from pwru.kernel.btf import Btf, Tracepoint
from pwru.kernel.functions import Target
from pwru.kernel.kallsyms import Kallsyms
from pwru.kernel.kernel import Kernel
from pwru.live.names import FunctionNames, TracepointNames
from tests.unit.kernel.btf_writer import Writer

TRACER_FRAMES = 12
DROP = Tracepoint("kfree_skb", 0, None, None)


class FakeKernel(Kernel):
    """A kernel with these symbols and drop reasons."""

    def __init__(self, read: Callable[[], Kallsyms], drop_reasons: dict[int, str] | None = None) -> None:
        super().__init__()
        self._read = read
        self._reasons = drop_reasons or {}

    @property
    def kallsyms(self) -> Kallsyms:
        self._kallsyms = self._kallsyms or self._read()
        return self._kallsyms

    @cached_property
    def btf(self) -> Btf:
        """Structs that a record may have copies of, one byte each, and reasons."""
        writer = Writer()
        byte = writer.integer("char", 1, True)
        for name in ("sk_buff", "skb_shared_info"):
            writer.struct(name, 1, ("byte", byte, 0))
        writer.enum("skb_drop_reason", *((name, number) for number, name in self._reasons.items()))
        writer.enum("sk_rst_reason", ("SK_RST_REASON_NO_SOCKET", 1))
        return Btf(writer.data())


def ignore(_: str) -> None:
    """Say nothing."""


def function_names(
    kernel: Kernel, by_address: Mapping[int, Target], on_message: Callable[[str], None] = ignore
) -> FunctionNames:
    return FunctionNames(kernel, by_address, TRACER_FRAMES, on_message)


def tracepoint_names(
    kernel: Kernel, tracepoints: Sequence[Tracepoint] = (DROP,), on_message: Callable[[str], None] = ignore
) -> TracepointNames:
    return TracepointNames(kernel, tracepoints, TRACER_FRAMES, on_message)
