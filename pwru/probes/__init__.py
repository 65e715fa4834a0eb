"""What to attach and how: one module for each backend, all behind one interface, best first.

A backend knows whether this kernel has what it needs (`unavailable()`), which program of the BPF object it wants loaded
(`program`), and how to attach it. Whether attaching is refused only the attempt tells, so whoever chooses
tries them in the order of BACKENDS and falls through on Refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pwru.kernel.btf import Btf, Tracepoint
    from pwru.kernel.functions import Target, Targets
    from pwru.kernel.kallsyms import Kallsyms
    from pwru.libbpf import Link, Object

# Best first; a module of the same name (with _ for -) holds the class Backend.
BACKENDS = ("kprobe-multi", "kprobe", "tracepoint")

# Called with how many of how many probes are attached.
Progress = Callable[[int, int], None]


class Refused(Exception):
    """This kernel does not let this backend attach anything; the message says in words what it lacks."""


class Sites:
    """What may be traced on this kernel, found when a backend first asks for it."""

    def __init__(self, btf: Btf, filter_func: str | None) -> None:
        self.btf = btf
        self._filter_func = filter_func

    @cached_property
    def kallsyms(self) -> Kallsyms:
        from pwru.kernel.kallsyms import Kallsyms

        return Kallsyms.read()

    @property
    def targets(self) -> list[Target]:
        """Functions with an skb among the arguments that BPF programs can read."""
        return self._targets.found

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Names of the functions that are not among the targets, by cause; empty before anybody asked for targets."""
        return self._targets.skipped if "_targets" in self.__dict__ else {}

    @cached_property
    def _targets(self) -> Targets:
        from pwru.kernel.functions import drop_notrace, find_targets

        return drop_notrace(find_targets(self.btf.functions("sk_buff"), self.kallsyms, self._filter_func))

    @cached_property
    def tracepoints(self) -> list[Tracepoint]:
        """Tracepoints with an skb; --filter-func names them as they are printed, or without `tracepoint:`."""
        found = self.btf.tracepoints("sk_buff")
        if self._filter_func is None:
            return found
        from pwru.kernel.functions import matching

        by_name = {name: t for t in found for name in (t.name, f"tracepoint:{t.name}")}
        wanted = {by_name[name] for name in matching(self._filter_func, by_name, "tracepoint")}
        return [t for t in found if t in wanted]

    @cached_property
    def drop_reasons(self) -> dict[int, str]:
        return self.btf.enum("skb_drop_reason") or {}


class Probes(ABC):
    """A backend at work on one loaded object."""

    name: ClassVar[str]

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.links: list[Link] = []
        self.attached = 0
        # What was attached, by the address that the BPF program reports.
        self.by_address: dict[int, Target] = {}
        # Names that could not be attached, with the reason in words.
        self.skipped: list[tuple[str, str]] = []

    @abstractmethod
    def unavailable(self) -> str | None:
        """Why this kernel cannot be traced this way, as far as that is known without attaching; None if it may be."""

    def find(self) -> list[Target] | list[Tracepoint]:
        """What it is going to attach to. Raises PwruError if there is nothing."""
        return self.sites.targets

    # The entry point in bpf/pwru.bpf.c.
    program: ClassVar[str]

    @abstractmethod
    def attach(self, bpf: Object, progress: Progress) -> None:
        """Attaches to all sites; raises Refused if it could not attach to any."""

    def detach(self) -> None:
        """Detaches everything; may be called at any time, more than once.

        A link that goes waits for an RCU grace period: side by side they wait once.
        """
        closing = [Thread(target=link.close) for link in self.links]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.links = []


def backend(name: str) -> type[Probes]:
    module = import_module(f"pwru.probes.{name.replace('-', '_')}")
    found: type[Probes] = module.Backend
    return found
