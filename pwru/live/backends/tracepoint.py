"""tracepoint: every tracepoint that carries an skb, on kernels that let nothing else be attached.

Coarse, but it works on locked-down machines, and shows a drop with its reason and place. A number says where a
tracepoint's arguments are (see bpf/pwru.bpf.c): the cookie of its link, or, before Linux 6.10, a constant in its own
copy of the program. Each copy has to be verified, which is what the start takes.
"""

import contextlib
from collections.abc import Callable, Mapping

from pwru import libbpf
from pwru.ebpf import replace_constant
from pwru.kernel import features
from pwru.kernel.btf import Tracepoint
from pwru.kernel.kallsyms import KallsymsError
from pwru.kernel.roles import ENDS, RELATIONS, TRACEPOINTS
from pwru.live.backends.arg_table import role_code
from pwru.live.backends.base import Backend
from pwru.live.backends.how import Missing, ProgramSpec, Progress, Refused, reason_of
from pwru.live.names import LiveNames, TracepointNames
from pwru.live.program import Program
from pwru.record.layout import Wire

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
        """Return whether links have cookies, and the address range of what calls the program.

        That is bpf_trace_run1…12(); their caller has the tracepoint.
        """
        config = {**super().config(), "has_cookie": self._has_cookie}
        addresses: list[int] = []
        if self.how.with_caller:
            names = [f"bpf_trace_run{count}" for count in range(1, 13)]
            with contextlib.suppress(KallsymsError):  # then the caller has no name either
                by_name = self.kernel.kallsyms.find(names)
                addresses = [address for symbols in by_name.values() for address in symbols]
        if not addresses:
            return config
        start = min(addresses)
        size = max(addresses) - start + _TRACE_RUN_BYTES
        return {**config, "trace_run": start, "trace_run_size": size}

    def names(self, tracer_frames: int, on_message: Callable[[str], None]) -> LiveNames:
        return TracepointNames(self.kernel, self.places.tracepoints, tracer_frames, on_message)

    def unseen_relations(self) -> list[str]:
        names = {tracepoint.name for tracepoint in self.places.tracepoints}
        return [kind for kind in RELATIONS if kind != ENDS or not names.issuperset(TRACEPOINTS)]

    @property
    def knows_ends(self) -> bool:
        """What __kfree_skb() frees passes no tracepoint."""
        return False

    def attach(self, program: Program, progress: Progress) -> None:
        template, wire, placeholder = program.insns(), program.wire, program.wire.constant("TRACEPOINT_TEMPLATE")
        for constant, by_cookie in self._copies(wire).items():
            with self.copied(replace_constant(template, placeholder, constant)) as fd:
                for cookie, name in by_cookie.items():
                    try:
                        self.links.append(libbpf.link_raw_tracepoint(fd, name, cookie))
                    except OSError as error:
                        self.skipped.append((name, reason_of(error)))
                    progress(len(self.links) + len(self.skipped), len(self.places.tracepoints))
        self.attached = len(self.links)
        if not self.attached:
            raise Refused(f"attaching is refused ({self.skipped[0][1]})")

    def _copies(self, wire: Wire) -> Mapping[int, Mapping[int, str]]:
        """Return the names of the tracepoints by the constant of the copy that they need, and by their cookie.

        That is 0 where there are no cookies.
        """
        copies: dict[int, dict[int, str]] = {}
        for number, tracepoint in enumerate(self.places.tracepoints):
            description = describe(wire, number, tracepoint)
            if self._has_cookie:
                copies.setdefault(_count(wire, tracepoint), {})[description] = tracepoint.name
            else:
                copies[description] = {0: tracepoint.name}
        return copies

    @property
    def _has_cookie(self) -> bool:
        return bool(self.kernel.fact("cookies of raw tracepoints", features.raw_tracepoint_cookie))


def describe(wire: Wire, number: int, t: Tracepoint) -> int:
    """Return what the program has to know of a tracepoint: TRACEPOINT_TEMPLATE in bpf/pwru.bpf.c. It is never 0."""
    none = wire.constant("NO_ARG")
    most = wire.constant("MAX_TRACEPOINT_ARGS")
    indexes = (t.skb_arg, t.reason_arg, t.location_arg, t.sock_arg)
    positions = (index if index is not None and index < most else none for index in indexes)
    arguments = sum(position << 4 * n for n, position in enumerate(positions))
    role = role_code(wire, TRACEPOINTS[t.name]) if t.name in TRACEPOINTS else 0
    return arguments | role << 16 | number << 32


def _count(wire: Wire, t: Tracepoint) -> int:
    """Return how many arguments are read, from the first."""
    indexes = (t.skb_arg, t.reason_arg, t.location_arg, t.sock_arg)
    return min(wire.constant("MAX_TRACEPOINT_ARGS"), 1 + max(index for index in indexes if index is not None))
