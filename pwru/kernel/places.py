"""What to probe on a kernel: the functions and tracepoints with an skb that a run chooses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from pwru.errors import PwruError
from pwru.kernel.btf import Tracepoint, functions, tracepoints
from pwru.kernel.kallsyms import text_start
from pwru.kernel.kernel import Kernel

if TYPE_CHECKING:
    from pwru.kernel.functions import Target, Targets

_STRUCT = "sk_buff"


class Places:
    """The choice of one run. What can be probed is looked up when a backend first asks for it.

    `left_out` has the names of matching functions that cannot be probed, by cause, and `empty_modules` the chosen
    modules without a function that can; both are empty before anybody asked for `functions`.
    """

    def __init__(
        self,
        kernel: Kernel,
        functions: str | None = None,
        modules: Sequence[str] = (),
        *,
        drops: bool = False,
        follow: bool = False,
        without_skb: Sequence[str] = (),
    ) -> None:
        """`functions`: a regular expression for whole names, of tracepoints for the backend that attaches to these.

        `modules`: loaded ones with BTF whose functions are chosen from, too. `drops`: only tracepoints of drops.
        `follow`: with roles, and also the functions without which packets cannot be followed. `without_skb`: also these
        functions, of vmlinux or the modules, which may have no skb.
        """
        self.kernel = kernel
        self._pattern = functions
        self._modules = modules
        self._drops = drops
        self._follow = follow
        self._without_skb = without_skb
        self._functions: list[Target] | None = None
        self.left_out: dict[str, list[str]] = {}
        self.empty_modules: list[str] = []

    @property
    def functions(self) -> list[Target]:
        """Functions with an skb among the arguments that BPF programs can read. Raises PwruError if there is none."""
        if self._functions is None:
            from pwru.kernel.functions import nothing_left, select, union
            from pwru.kernel.modules import loaded
            from pwru.kernel.printed import check_printed

            everything = union([self._of_vmlinux(), self._of_modules(self._modules)])
            with_targets = {target.module for target in everything.found}
            self.empty_modules = [module for module in self._modules if module not in with_targets]
            if self._pattern is not None:
                check_printed(self._pattern, set(everything.names), loaded)
            chosen = select(everything, self._pattern)
            if not chosen.found:
                raise nothing_left(everything, self._pattern)
            self.left_out = chosen.skipped
            further = self._further(everything, chosen.found)
            self._functions = self._with_roles([*chosen.found, *further], everything.found)
        return self._functions

    @cached_property
    def tracepoints(self) -> list[Tracepoint]:
        """Tracepoints with an skb; they are chosen by name, as it is printed or without `tracepoint:`."""
        every = [t for t in tracepoints(self.kernel.btf, _STRUCT) if t.drops or not self._drops]
        if self._pattern is None:
            return every
        from pwru.kernel.functions import matching
        from pwru.kernel.printed import check_printed

        by_name = {name: t for t in every for name in (t.name, f"tracepoint:{t.name}")}
        check_printed(self._pattern, by_name, tuple)
        chosen = {by_name[name] for name in matching(self._pattern, by_name, "tracepoint")}
        return [t for t in every if t in chosen]

    def in_new_modules(self, modules: Sequence[str]) -> list[Target]:
        """Return the functions of modules that have been loaded since the start; there may be none."""
        from pwru.kernel.functions import select

        self.kernel.notice_modules()
        return self._with_roles(select(self._of_modules(modules), self._pattern).found, ())

    def _with_roles(self, chosen: list[Target], everything: Sequence[Target]) -> list[Target]:
        if not self._follow:
            return chosen
        from pwru.kernel.roles import with_roles

        return with_roles(chosen, everything)

    def _further(self, everything: Targets, chosen: Sequence[Target]) -> list[Target]:
        """Return the functions that are wanted although they may have no skb; one that has is like all others."""
        if not self._without_skb:
            return []
        from pwru.kernel.functions import find_plain

        names = set(self._without_skb)
        with_skb = [target for target in everything.found if names.intersection(target.names)]
        found = names.intersection(name for target in with_skb for name in target.names)
        addresses = {target.address for target in chosen}
        plain = find_plain(names - found, self.kernel.kallsyms, self._modules)
        return [target for target in [*with_skb, *plain] if target.address not in addresses]

    def _of_vmlinux(self) -> Targets:
        """Return all of them, unfiltered: they depend only on the kernel image; their addresses move with KASLR."""
        from pwru.kernel.functions import Target, Targets, drop_notrace, find_targets

        kernel, start = self.kernel, text_start()
        if start and (known := kernel.facts.get("functions")):
            found, skipped = known
            return Targets([Target(*fields) for fields in found], skipped).moved(start)
        everything = find_targets(functions(kernel.btf, _STRUCT), kernel.kallsyms)
        traceable = drop_notrace(everything)
        if start and traceable is not everything:
            kernel.facts.set("functions", traceable.moved(-start))
        return traceable

    def _of_modules(self, modules: Sequence[str]) -> Targets:
        """Skip modules that have been unloaded meanwhile."""
        from pwru.kernel.functions import drop_notrace, find_targets, union

        parts = []
        for module in modules:
            with suppress(PwruError):
                own = functions(self.kernel.module_btf(module), _STRUCT)
                if own:
                    parts.append(find_targets(own, self.kernel.kallsyms, module=module))
        return drop_notrace(union(parts)) if parts else union([])
