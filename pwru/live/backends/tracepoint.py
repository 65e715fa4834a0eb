"""tracepoint: every tracepoint that carries an skb, on kernels that let nothing else be attached.

Coarse, but it works on locked-down machines, and shows a drop with its reason and place. Each tracepoint gets its own
copy of one loaded template program, in which a constant encodes where its arguments are (see bpf/pwru.bpf.c).
"""

import contextlib
from collections.abc import Callable, Mapping

from pwru import libbpf
from pwru.ebpf import replace_constant
from pwru.kernel.btf import Tracepoint
from pwru.kernel.kallsyms import KallsymsError
from pwru.libbpf import Link
from pwru.live.backends.base import Backend
from pwru.live.backends.how import Missing, ProgramSpec, Progress, Refused, reason_of
from pwru.live.names import LiveNames, TracepointNames
from pwru.live.program import Program
from pwru.record.layout import Wire

_MAX_ARGS = 8  # arguments of a tracepoint that tracepoint_arg() in bpf/arguments.bpf.h reads
_TRACE_RUN_BYTES = 1024  # at most this much code has one bpf_trace_run1()


class Tracepoints(Backend):
    name = "tracepoint"
    program = ProgramSpec("on_tracepoint", libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT)
    unit = "tracepoint"
    takes_modules = False
    has_location = True

    def unavailable(self) -> Missing | None:
        return None if self.places.tracepoints else Missing("this kernel's BTF has no tracepoint with an skb")

    def find(self) -> list[Tracepoint]:
        return self.places.tracepoints

    def config(self) -> Mapping[str, int]:
        """Return the address range of bpf_trace_run1…12(), which call the program; their caller has the tracepoint."""
        addresses: list[int] = []
        if self.how.with_caller:
            names = [f"bpf_trace_run{count}" for count in range(1, 13)]
            with contextlib.suppress(KallsymsError):  # then the caller has no name either
                by_name = self.kernel.kallsyms.find(names)
                addresses = [address for symbols in by_name.values() for address in symbols]
        if not addresses:
            return super().config()
        start = min(addresses)
        size = max(addresses) - start + _TRACE_RUN_BYTES
        return {**super().config(), "trace_run": start, "trace_run_size": size}

    def names(self, tracer_frames: int, on_message: Callable[[str], None]) -> LiveNames:
        return TracepointNames(self.kernel, self.places.tracepoints, tracer_frames, on_message)

    def attach(self, program: Program, progress: Progress) -> None:
        insns, self._wire = program.insns(), program.wire
        for number, tracepoint in enumerate(self.places.tracepoints):
            try:
                self.links.append(self._attach(insns, number, tracepoint))
            except OSError as error:
                self.skipped.append((tracepoint.name, reason_of(error)))
            progress(number + 1, len(self.places.tracepoints))
        self.attached = len(self.links)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")

    def _attach(self, template: bytes, number: int, tracepoint: Tracepoint) -> Link:
        with self.copied(specialize(self._wire, template, number, tracepoint)) as fd:
            return libbpf.link_raw_tracepoint(fd, tracepoint.name)


def specialize(wire: Wire, template: bytes, number: int, tracepoint: Tracepoint) -> bytes:
    """Return the template's instructions with this tracepoint's constant: TRACEPOINT_TEMPLATE in bpf/pwru.bpf.c."""
    no_arg = wire.constant("NO_ARG")

    def position(index: int | None) -> int:
        return index if index is not None and index < _MAX_ARGS else no_arg

    arguments = (
        position(tracepoint.skb_arg) | position(tracepoint.reason_arg) << 4 | position(tracepoint.location_arg) << 8
    )
    return replace_constant(template, wire.constant("TRACEPOINT_TEMPLATE"), arguments | number << 32)
