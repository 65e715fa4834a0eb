"""What the numbers of a live trace mean: kernel addresses and drop reasons as names."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pwru.kernel import netns
from pwru.kernel.bpf_programs import Kind, verdict
from pwru.kernel.drop_reasons import NO_DROP
from pwru.kernel.kallsyms import KallsymsError, source_name
from pwru.kernel.roles import AFTER_ENDS, ENDING, RELEASE, TRACEPOINTS
from pwru.record.names import Function, Hit
from pwru.record.parts import COPIES

if TYPE_CHECKING:
    from pwru.kernel.btf import Tracepoint
    from pwru.kernel.functions import Target
    from pwru.kernel.kallsyms import Symbol
    from pwru.kernel.kernel import Kernel
    from pwru.kernel.shapes import Shape
    from pwru.record.dump import Dump

# These drop a packet, with a reason or, in older kernels, without.
_DROPS = ("kfree_skb", "kfree_skb_list", "tcp_drop")

_DROP_TRACEPOINT = "kfree_skb"

# Frames between a tracepoint and the BPF program.
_TRACER = re.compile(r"\[bpf\]$|^(bpf_trace_run|__bpf_trace_|__traceiter_)")
_FRAMES = 1 << 13


class SeenProgram(NamedTuple):
    """A BPF program at its entry or exit."""

    name: str
    kind: Kind
    at_exit: bool

    def function(self, returned: int) -> Function:
        name = f"{self.name}({self.kind.label})"
        if not self.at_exit:
            return Function(name, "")
        text, drops = verdict(self.kind, returned)
        return Function(name, "", drops, text)


class SeenHelper(NamedTuple):
    """What BPF programs call."""

    name: str

    def function(self, _returned: int) -> Function:
        return Function(self.name, "")


class Code(NamedTuple):
    """Where the machine code of a BPF program is, and the program's name."""

    start: int
    end: int
    name: str


class LiveNames(ABC):
    """Made once everything is attached; names are looked up on the first event that needs them."""

    ends: Collection[int] = ()
    after_ends: Collection[int] = ()
    sees_ends: bool

    def __init__(self, kernel: Kernel, tracer_frames: int, on_message: Callable[[str], None]) -> None:
        """`tracer_frames`: how many frames of a stack, at most, are the tracer's own."""
        self._kernel = kernel
        self._tracer_frames = tracer_frames
        self._say = on_message
        self._frames: dict[int, str] = {}
        self._frames_of = 0  # the generation of these names
        self._hidden = False
        # BPF programs that are traced and what they call, by what `Hit.addr` is; where these programs are.
        self.programs: Mapping[int, SeenProgram | SeenHelper] = {}
        self.code: Sequence[Code] = ()
        self._dumps: dict[str, Dump] = {}

    @property
    def generation(self) -> int:
        return self._kernel.generation

    def clock_offset(self) -> int:
        return time.time_ns() - time.monotonic_ns()

    @abstractmethod
    def function(self, hit: Hit) -> Function:
        """Return the names of what a probe reports."""

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        """Return the frames from the caller on. How many frames of the tracer precede it depends on the backend.

        The caller of a BPF program may not be among them.
        """
        known = caller and not _TRACER.search(self._frame(caller))
        if known and caller in frames:
            frames = frames[frames.index(caller) :]
        else:
            names = [self._frame(frame) for frame in frames[: self._tracer_frames]]
            own = [number for number, name in enumerate(names) if _TRACER.search(name)]
            frames = [caller] * bool(known) + list(frames[own[-1] + 1 if own else 0 :])
        return [self._frame(frame) for frame in frames]

    def _frame(self, address: int) -> str:
        if self._frames_of != self.generation or len(self._frames) >= _FRAMES:
            self._frames.clear()
            self._frames_of = self.generation
        if (name := self._frames.get(address)) is None:
            name = self._frames[address] = self.place(address)
        return name

    def netns(self) -> Mapping[int, str]:
        return netns.names()

    def dump(self, part: str, raw: bytes) -> str:
        if part not in self._dumps:
            from pwru.record.dump import Dump

            self._dumps[part] = Dump(*self.shape(part))
        return self._dumps[part](raw)

    def shape(self, part: str) -> tuple[str, Shape]:
        from pwru.kernel.shapes import shape_of

        return shape_of(self._kernel.btf, COPIES[part])

    def place(self, address: int, *, offset: bool = True, returned: bool = True) -> str:
        """Return the symbol that an address belongs to, with the offset in it.

        `returned`: it is a return address. The call may be the last instruction of its function, and what follows
        belongs to another one.
        """
        symbol = self._symbol(address - returned)
        if symbol is None:
            return f"0x{address:x}"
        name = f"{symbol.name}+0x{symbol.offset + returned:x}" if offset else symbol.name
        return f"{name}[{symbol.module}]" if symbol.module else name

    def with_reason(self, name: str, reason: int) -> Function:
        """Return a function or tracepoint, without a caller, that takes a drop reason of whatever subsystem."""
        reasons = self._kernel.drop_reasons
        known = reasons.name(reason)
        return Function(_with(name, known, reasons.text(reason)), "", known not in NO_DROP)

    def unknown(self, hit: Hit) -> Function:
        """Return the BPF program that was hit, or where a hit was that is at no probe.

        A line that says so is better than the end of a trace.
        """
        if program := self.programs.get(hit.addr):
            return program.function(hit.reason)._replace(caller=self.caller(hit, offset=False))
        return Function(self.place(hit.addr, returned=False), self.place(hit.location) if hit.location else "")

    def caller(self, hit: Hit, *, offset: bool) -> str:
        """Return the place of the location; "" where several programs share a tracepoint, which hides it."""
        if program := next((code.name for code in self.code if code.start < hit.location <= code.end), None):
            return program
        caller = self.place(hit.location, offset=offset) if hit.location else ""
        return "" if _TRACER.search(caller) else caller

    def _symbol(self, address: int) -> Symbol | None:
        """None for an address without a symbol, and for all if the kernel hides its symbols: that ends no trace."""
        if self._hidden:
            return None
        try:
            return self._kernel.symbol(address)
        except KallsymsError as error:
            self._hidden = True
            self._say(f"Kernel symbols are unavailable: {error}.")
            return None


def _with(name: str, reason: str | None, number: str) -> str:
    """Return a function or tracepoint with its reason; a number, of a reason without a name, stands apart."""
    return f"{name}({reason})" if reason else f"{name} ({number})"


class FunctionNames(LiveNames):
    """Names of probed functions."""

    def __init__(
        self, kernel: Kernel, by_address: Mapping[int, Target], tracer_frames: int, on_message: Callable[[str], None]
    ) -> None:
        """`by_address`: what is attached, by what `Hit.addr` is; more may come."""
        super().__init__(kernel, tracer_frames, on_message)
        self._by_address = by_address
        names = {addr: source_name(target.name) or target.name for addr, target in by_address.items()}
        self.ends = {addr for addr, name in names.items() if name in ENDING}
        self.after_ends = {addr for addr, name in names.items() if AFTER_ENDS.fullmatch(name)}
        self.sees_ends = RELEASE in names.values()

    def function(self, hit: Hit) -> Function:
        target = self._by_address.get(hit.addr)
        if target is None:
            return self.unknown(hit)
        function = Function(self._name(target), "", target.name in _DROPS)
        # Functions that merely free pass a reason on, too, and for a packet that was consumed it says nothing
        # (skb_release_data()).
        if target.has_reason and ("kfree_skb" in target.name or "drop" in target.name):
            function = self.with_reason(function.name, hit.reason)
        return function._replace(caller=self.caller(hit, offset=False))

    def _name(self, target: Target) -> str:
        """`foo[bar]` for a module's function if others that are traced, of vmlinux or another module, are foo."""
        if target.module is None:
            return target.name
        namesakes = (other for other in self._by_address.values() if other.name == target.name)
        ambiguous = any(other.module != target.module for other in namesakes)
        return f"{target.name}[{target.module}]" if ambiguous else target.name


class TracepointNames(LiveNames):
    """Names of tracepoints."""

    def __init__(
        self, kernel: Kernel, tracepoints: Sequence[Tracepoint], tracer_frames: int, on_message: Callable[[str], None]
    ) -> None:
        """`tracepoints`: what is attached, by what `Hit.addr` is."""
        super().__init__(kernel, tracer_frames, on_message)
        self._tracepoints = tracepoints
        self.ends = {number for number, t in enumerate(tracepoints) if t.name in TRACEPOINTS}
        self.sees_ends = all(t.name == _DROP_TRACEPOINT for t in tracepoints)

    def function(self, hit: Hit) -> Function:
        if hit.addr >= len(self._tracepoints):
            return self.unknown(hit)
        tracepoint = self._tracepoints[hit.addr]
        name = f"tracepoint:{tracepoint.name}"
        if tracepoint.reason_arg is None:
            function = Function(name, "", tracepoint.drops)
        elif tracepoint.drops:
            function = self.with_reason(name, hit.reason)
        else:
            known = (self._kernel.btf.enum(tracepoint.reason_enum) or {}).get(hit.reason)
            function = Function(_with(name, known, str(hit.reason)), "")
        return function._replace(caller=self.caller(hit, offset=True))
