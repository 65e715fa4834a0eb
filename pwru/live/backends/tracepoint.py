"""tracepoint: every tracepoint that carries an skb, on kernels that let nothing else be attached.

Coarse, but it works on locked-down machines, and shows a drop with its reason and place. Each tracepoint gets its own
copy of one loaded template program, in which a constant says where its arguments are (see bpf/pwru.bpf.c).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pwru import libbpf
from pwru.ebpf import replace_constant
from pwru.live.backends import Probes, Progress, Refused

if TYPE_CHECKING:
    from pwru.kernel.btf import Tracepoint
    from pwru.libbpf import Link, Object

_CONSTANT = 0x7077727500000FF0
_MAX_ARGS = 8
_NO_ARG = 15


class Backend(Probes):
    name = "tracepoint"
    program = "on_tracepoint"
    kind = libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, 0
    has_location = True

    def unavailable(self) -> str | None:
        return None if self.sites.tracepoints else "this kernel's BTF has no tracepoint with an skb"

    def find(self) -> list[Tracepoint]:
        return self.sites.tracepoints

    def attach(self, bpf: Object, progress: Progress) -> None:
        insns = bpf.program(self.program).insns()
        for number, tracepoint in enumerate(self.sites.tracepoints):
            try:
                self.links.append(self._attach(insns, number, tracepoint))
            except OSError as error:
                self.skipped.append((tracepoint.name, os.strerror(error.errno or 0)))
            progress(number + 1, len(self.sites.tracepoints))
        self.attached = len(self.links)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")

    def _attach(self, template: bytes, number: int, tracepoint: Tracepoint) -> Link:
        fd = self._load_copy(specialize(template, number, tracepoint))
        try:
            return libbpf.link_raw_tracepoint(fd, tracepoint.name)
        finally:
            os.close(fd)  # the link holds the program


def specialize(template: bytes, number: int, tracepoint: Tracepoint) -> bytes:
    """The template's instructions with the constant of this tracepoint: TRACEPOINT_TEMPLATE in bpf/pwru.bpf.c."""

    def position(index: int | None) -> int:
        return index if index is not None and index < _MAX_ARGS else _NO_ARG

    what = position(tracepoint.skb_arg) | position(tracepoint.reason_arg) << 4 | position(tracepoint.location_arg) << 8
    return replace_constant(template, _CONSTANT, what | number << 32)
