"""From what a probe reports to names: the function or tracepoint that was hit, the drop reason, the place of a drop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pwru.commands.messages import say
from pwru.kernel.kallsyms import KallsymsError
from pwru.record.event import Function

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.kernel.kallsyms import Symbol
    from pwru.live.backends import Probes
    from pwru.record.event import Where

# These drop a packet, with a reason or, in older kernels, without.
_DROPS = ("kfree_skb", "kfree_skb_list", "tcp_drop")
# What functions that take a reason are told when they drop nothing.
_NO_DROP = ("SKB_NOT_DROPPED_YET", "SKB_CONSUMED")
_LAST_FUNCTIONS = ("kfree_skbmem", "kfree_skb_partial")
_LAST_TRACEPOINTS = ("kfree_skb", "consume_skb")

# Of what a tracepoint calls until it is in the program. There are no more frames than these.
_TRACER = re.compile(r"\[bpf\]$|^(bpf_trace_run|__bpf_trace_|__traceiter_)")
_TRACER_FRAMES = 12
_FRAMES = 1 << 13


class Symbolizer:
    """Made once everything is attached; names are looked up on the first event that needs them."""

    def __init__(self, probes: Probes) -> None:
        self._sites = probes.sites
        self._by_address = probes.by_address
        self._frame = lru_cache(_FRAMES)(self.place)  # of the addresses in stacks
        self._hidden = False
        # Those that were there when the symbols were read; at first that is not known.
        self._modules: dict[str, int] = {}

    def function(self, where: Where) -> Function:
        addr, reason, location = where
        target = self._by_address.get(addr)
        if target is None and (self._by_address or addr >= len(self._sites.tracepoints)):
            # No probe is there. A line that says where it was is better than the end of a trace.
            return Function(self.place(addr, returned=False), self.place(location) if location else "")
        if target is None:
            tracepoint = self._sites.tracepoints[addr]
            plain = tracepoint.name
            name = f"tracepoint:{plain}"
            with_reason = tracepoint.reason_arg is not None
        else:
            plain = target.name
            name = self._name(target)
            # Functions that merely free pass a reason on, too, and for a packet that was consumed it says nothing
            # (skb_release_data()).
            with_reason = target.has_reason and ("kfree_skb" in target.name or "drop" in target.name)
        caller = self.place(location, offset=target is None) if location else ""
        if _TRACER.search(caller):
            caller = ""  # several programs are at the tracepoint, and so the kernel calls them by another function
        drops = plain in _DROPS
        if with_reason:
            name += self._reason(reason)
            drops = self._sites.drop_reasons.get(reason) not in _NO_DROP
        return Function(name, caller, drops)

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        """The frames from the caller on. Which ones of the tracer are above it differs from backend to backend."""
        if caller in frames and not _TRACER.search(self._frame(caller)):
            frames = frames[frames.index(caller) :]
        else:
            names = [self._frame(frame) for frame in frames[:_TRACER_FRAMES]]
            own = [number for number, name in enumerate(names) if _TRACER.search(name)]
            frames = frames[own[-1] + 1 if own else 0 :]
        return [self._frame(frame) for frame in frames]

    def last(self) -> set[int]:
        """What `Where.addr` is where the way of an skb ends: its memory is given back, its address may be used again.

        What the kernel frees in bulk or keeps for the next packet ends in functions that are inlined.
        """
        if self._by_address:
            return {addr for addr, target in self._by_address.items() if target.name in _LAST_FUNCTIONS}
        return {number for number, t in enumerate(self._sites.tracepoints) if t.name in _LAST_TRACEPOINTS}

    def _name(self, target: Target) -> str:
        """As in `foo[bar]` for a module's function if others that are traced, of vmlinux or another module, are foo."""
        if target.module is None:
            return target.name
        namesakes = (other for other in self._by_address.values() if other.name == target.name)
        ambiguous = any(other.module != target.module for other in namesakes)
        return f"{target.name}[{target.module}]" if ambiguous else target.name

    def _reason(self, reason: int) -> str:
        known = self._sites.drop_reasons.get(reason)
        return f"({known})" if known else f" ({reason})"

    def place(self, address: int, *, offset: bool = True, returned: bool = True) -> str:
        """`returned`: of where a call returns to. It may be the last of a function: what is behind it is another's."""
        symbol = self._symbol(address - returned)
        if symbol is None:
            return f"0x{address:x}"
        name = f"{symbol.name}+0x{symbol.offset + returned:x}" if offset else symbol.name
        return f"{name}[{symbol.module}]" if symbol.module else name

    def _symbol(self, address: int) -> Symbol | None:
        """None where it has none, and for all where the kernel hides its symbols: that ends no trace."""
        if self._hidden:
            return None
        try:
            if not self._sites.kallsyms.in_vmlinux(address):
                from pwru.kernel.modules import loaded

                if (there := loaded()) != self._modules:
                    self._modules = there
                    self._sites.forget_symbols()
            return self._sites.kallsyms.lookup(address)
        except KallsymsError as error:
            self._hidden = True
            say(f"Places in the kernel have no names: {error}.")
            return None
