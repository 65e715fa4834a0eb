"""What to attach and how: one module for each backend, all behind one interface, best first.

A backend knows whether this kernel has what it needs (`unavailable()`), which program of the BPF object it wants loaded
(`program`), and how to attach it. Whether attaching is refused only the attempt tells, so whoever chooses
tries them in the order of BACKENDS and falls through on Refused.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pwru.errors import PwruError

if TYPE_CHECKING:
    from pwru.kernel.btf import Btf, Tracepoint
    from pwru.kernel.facts import Facts
    from pwru.kernel.functions import Target, Targets
    from pwru.kernel.kallsyms import Kallsyms
    from pwru.libbpf import Link, Object

# Best first; a module of the same name (with _ for -) holds the class Backend.
BACKENDS = ("kprobe-multi", "fentry-multi", "kprobe", "fentry", "tracepoint")

_ENOTSUPP = 524  # include/linux/errno.h: meant to stay in the kernel, but does not
# What the kernel answers when one function of a link cannot be traced: other errors are not about a function.
BAD_FUNCTION = {
    *(errno.EINVAL, errno.ENOENT, errno.EBUSY, errno.EADDRNOTAVAIL, errno.ESRCH, errno.E2BIG, errno.EOPNOTSUPP),
    _ENOTSUPP,
}

# The question to Facts whose answer are all functions of vmlinux that can be traced, from the start of its text.
_FUNCTIONS = "functions"

_T = TypeVar("_T")

# Called with how many of how many probes are attached.
Progress = Callable[[int, int], None]


class Refused(Exception):
    """This kernel does not let this backend attach anything; the message says in words what it lacks."""


class Sites:
    """What may be traced on this kernel, found when a backend first asks for it."""

    def __init__(
        self,
        filter_func: str | None = None,
        *,
        kernel_btf: str | None = None,
        modules: Sequence[str] = (),
        memory: Facts | None = None,
    ) -> None:
        """`modules`: loaded ones with BTF, whose functions are wanted, too. `memory`: of this kernel by its own BTF."""
        self._kernel_btf = kernel_btf
        self._memory = memory
        self._filter_func = filter_func
        self._modules = modules
        # Of them, those without a function that could be traced; known with the targets.
        self.empty_modules: list[str] = []

    @cached_property
    def btf(self) -> Btf:
        """Of vmlinux; only what is not remembered is looked up in it."""
        from pwru.kernel.btf import vmlinux_btf

        return vmlinux_btf(self._kernel_btf)

    def ask(self, question: str, find: Callable[[Btf], _T]) -> _T:
        """`find(btf)`, remembered from an earlier start if there was one; what JSON can hold, but not None."""
        answer: _T | None = self._memory.get(question) if self._memory else None
        if answer is None:
            answer = find(self.btf)
            if self._memory:
                self._memory.set(question, answer)
        return answer

    def has_attach_type(self, name: str) -> bool:
        """Whether the kernel knows it: enum bpf_attach_type in include/uapi/linux/bpf.h."""
        return name in self.ask("attach types", lambda btf: list((btf.enum("bpf_attach_type") or {}).values()))

    @cached_property
    def kallsyms(self) -> Kallsyms:
        from pwru.kernel.kallsyms import Kallsyms

        return Kallsyms.read()

    def forget_symbols(self) -> None:
        """To read them anew: modules have come or gone."""
        self.__dict__.pop("kallsyms", None)

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
        from pwru.kernel.functions import nothing_left, select, union

        everything = union([self._of_vmlinux(), self._of_modules(self._modules)])
        with_targets = {target.module for target in everything.found}
        self.empty_modules = [module for module in self._modules if module not in with_targets]
        chosen = select(everything, self._filter_func)
        if not chosen.found:
            raise nothing_left(everything, self._filter_func)
        return chosen

    def _of_vmlinux(self) -> Targets:
        """Whatever --filter-func says: they depend on the kernel only, and their addresses on where it is this time."""
        from pwru.kernel.btf import functions
        from pwru.kernel.functions import Target, Targets, drop_notrace, find_targets
        from pwru.kernel.kallsyms import text_start

        memory, start = self._memory, text_start()
        if memory and start and (known := memory.get(_FUNCTIONS)):
            found, skipped = known
            return Targets([Target(*fields) for fields in found], skipped).moved(start)
        everything = find_targets(functions(self.btf, "sk_buff"), self.kallsyms)
        traceable = drop_notrace(everything)
        if memory and start and traceable is not everything:
            memory.set(_FUNCTIONS, traceable.moved(-start))
        return traceable

    def _of_modules(self, modules: Sequence[str]) -> Targets:
        """Those of one that has gone meanwhile are not there."""
        from pwru.kernel.btf import functions
        from pwru.kernel.functions import drop_notrace, find_targets, union

        parts = []
        for module in modules:
            with suppress(PwruError):
                own = functions(self.module_btf(module), "sk_buff")
                if own:
                    parts.append(find_targets(own, self.kallsyms, module=module))
        return drop_notrace(union(parts)) if parts else union([])

    def module_btf(self, module: str) -> Btf:
        """The BTF that Target.btf_id is of. Raises PwruError if there is none (any more)."""
        from pwru.kernel.btf import read_btf
        from pwru.kernel.modules import btf_path

        return read_btf(btf_path(module), self.btf)

    def of_new_modules(self, modules: Sequence[str]) -> list[Target]:
        """Functions of modules that have been loaded since the start; there may be none.

        All symbols are read again for it: the kernel has no list of those of one module.
        """
        from pwru.kernel.functions import select

        self.forget_symbols()
        return select(self._of_modules(modules), self._filter_func).found

    @cached_property
    def tracepoints(self) -> list[Tracepoint]:
        """Tracepoints with an skb; --filter-func names them as they are printed, or without `tracepoint:`."""
        from pwru.kernel.btf import tracepoints

        found = tracepoints(self.btf, "sk_buff")
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

    def __init__(self, sites: Sites, batch: int = 10) -> None:
        """`batch`: how many probes the kernel gets at a time, if it does not get all at once."""
        self.sites = sites
        self.batch = batch
        # Whether the kernel stack is wanted: not all places of a function are good for that.
        self.with_stack = False
        self.links: list[Link] = []
        self.attached = 0
        # What was attached, by the address that the BPF program reports.
        self.by_address: dict[int, Target] = {}
        # Names that the kernel refused, with the reason in words.
        self.skipped: list[tuple[str, str]] = []
        # Names of targets that this backend does not try, by cause.
        self.left_out: dict[str, list[str]] = {}
        # After detach(): how often a probe was hit and the kernel did not run the program, as far as it counts that.
        self.missed = 0

    @abstractmethod
    def unavailable(self) -> str | None:
        """Why this kernel cannot be traced this way, as far as that is known without attaching; None if it may be."""

    def find(self) -> list[Target] | list[Tracepoint]:
        """What it is going to attach to. Raises PwruError if there is nothing."""
        return self.sites.targets

    # The entry point in bpf/pwru.bpf.c, and whether libbpf knows its type by its section.
    program: ClassVar[str]
    section_tells: ClassVar[bool] = True

    # Whether its events say where a drop happened: `Where.location`.
    has_location: ClassVar[bool] = False
    # See struct config in bpf/pwru.h.
    ip_is_entry: bool = False
    tries: ClassVar[int] = 1

    # What is attached is of this type and attach type: enum bpf_prog_type and bpf_attach_type.
    kind: ClassVar[tuple[int, int]]

    def _load_copy(self, insns: bytes, *, btf_id: int = 0, btf_fd: int = 0) -> int:
        """The instructions of a loaded program, changed, as another one; the file descriptor is the caller's to close.

        `btf_id` and `btf_fd` as in libbpf.prog_load(). PwruError if there may not be so many.
        """
        from pwru import libbpf

        while True:
            try:
                return libbpf.prog_load(
                    self.kind[0],
                    insns,
                    expected_attach_type=self.kind[1],
                    attach_btf_id=btf_id,
                    attach_btf_obj_fd=btf_fd,
                )
            except OSError as error:
                from pwru.live import memlock

                if error.errno != errno.EPERM or not memlock.grow(self.sites):
                    raise

    @abstractmethod
    def attach(self, bpf: Object, progress: Progress) -> None:
        """Attaches to all sites; raises Refused if it could not attach to any."""

    def attach_more(self, bpf: Object, targets: list[Target]) -> int:
        """Attaches to these, too, while events come; to how many of them. Raises Refused if that is not to be had.

        What running programs use is left as it is: the new ones are attached with a program of their own.
        """
        raise Refused(f"{self.name} cannot attach to more while it traces")

    def detach(self) -> None:
        """Detaches everything; may be called at any time, more than once.

        A link that goes waits for an RCU grace period: side by side they wait once.
        """
        self.missed += self._count_missed()
        closing = [Thread(target=link.close) for link in self.links]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.links = []

    def _count_missed(self) -> int:
        """Of all links: hits while a program ran on that CPU, which the kernel counts for the link or the program."""
        from pwru import libbpf

        by_programs = dict(map(libbpf.prog_missed, self.links))
        return sum(map(libbpf.link_missed, self.links)) + sum(by_programs.values())


def link_many(link: Callable[[list[Target]], Link], targets: list[Target], probes: Probes) -> None:
    """One link for all; where the kernel refuses one of the functions, two for the halves, and so on down to it."""
    try:
        probes.links.append(link(targets))
    except OSError as error:
        reason = why(error)
        if error.errno not in BAD_FUNCTION:
            raise Refused(f"attaching is refused ({reason})") from None
        if len(targets) == 1:
            probes.skipped.append((targets[0].name, reason))
            return
        half = len(targets) // 2
        link_many(link, targets[:half], probes)
        link_many(link, targets[half:], probes)


def why(error: OSError) -> str:
    """The kernel's reason in words."""
    return "not supported" if error.errno == _ENOTSUPP else os.strerror(error.errno or 0)


def backend(name: str) -> type[Probes]:
    module = import_module(f"pwru.live.backends.{name.replace('-', '_')}")
    found: type[Probes] = module.Backend
    return found
