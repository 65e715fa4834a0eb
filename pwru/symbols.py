"""From what a probe reports to names: the function or tracepoint that was hit, the drop reason, the place of a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pwru.event import Function

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.probes import Probes


class Symbolizer:
    """Made once everything is attached; names are looked up on the first event that needs them."""

    def __init__(self, probes: Probes) -> None:
        self._sites = probes.sites
        self._by_address = probes.by_address

    def function(self, addr: int, reason: int, location: int) -> Function:
        """`addr` is what the BPF program reports: an address in a function, or the number of a tracepoint."""
        target = self._by_address.get(addr)
        if target is None:
            tracepoint = self._sites.tracepoints[addr]
            name = f"tracepoint:{tracepoint.name}"
            with_reason = tracepoint.reason_arg is not None
        else:
            name = self._name(target)
            # The entry points in bpf/pwru.bpf.c read the argument after the skb. Functions that merely free pass a
            # reason on, too, and for a packet that was consumed it says nothing (skb_release_data()).
            with_reason = target.reason_arg == target.skb_arg + 1 and (
                "kfree_skb" in target.name or "drop" in target.name
            )
        return Function(name + self._reason(reason) if with_reason else name, self._location(location))

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

    def _location(self, address: int) -> str:
        symbol = self._sites.kallsyms.lookup(address) if address else None
        if symbol is None:
            return f"0x{address:x}" if address else ""
        return f"{symbol.name}+0x{symbol.offset:x}" + (f"[{symbol.module}]" if symbol.module else "")
