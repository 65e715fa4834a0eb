"""What this kernel is: its types, symbols and drop reasons, and facts about its image from an earlier start."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import TypeVar

from pwru.errors import PwruError
from pwru.kernel.btf import VMLINUX, Btf, read_btf, vmlinux_btf
from pwru.kernel.drop_reasons import ENUMS, DropReasons
from pwru.kernel.facts import NOTES, Facts
from pwru.kernel.kallsyms import KALLSYMS, Kallsyms, KallsymsError, Symbol

_T = TypeVar("_T")


class Kernel:
    """The running kernel. Whatever is asked is read on the first use."""

    def __init__(self, kernel_btf: str | None = None, *, remember: bool = False) -> None:
        """`kernel_btf`: a file with the kernel's BTF instead of its own. `remember`: use facts of earlier starts.

        Facts are about a kernel with BTF of its own only.
        """
        self.kernel_btf = kernel_btf
        self.facts = Facts(notes=NOTES if remember and not kernel_btf and os.path.exists(VMLINUX) else None)
        self._kallsyms: Kallsyms | None = None
        self._symbols: FileIO | None = None  # what they will be read from, if it is open already
        self._looked_at: set[tuple[str, int]] = set()
        self._modules: dict[str, int] = {}  # those that were loaded when the symbols were read; unknown at first
        self.generation = 0  # goes up when symbols may mean something else

    @cached_property
    def btf(self) -> Btf:
        """The BTF of vmlinux. Raises PwruError if there is none."""
        return vmlinux_btf(self.kernel_btf)

    def module_btf(self, module: str) -> Btf:
        """Return the BTF of a module. Raises PwruError if it has none, or none any more."""
        from pwru.kernel.modules import btf_path

        return read_btf(btf_path(module), self.btf)

    def fact(self, name: str, find: Callable[[Btf], _T]) -> _T:
        """Return `find(btf)`, or what an earlier start found: anything that JSON can hold, but None."""
        fact: _T | None = self.facts.get(name)
        if fact is None:
            fact = find(self.btf)
            self.facts.set(name, fact)
        return fact

    def has_attach_type(self, name: str) -> bool:
        """Return whether the kernel knows this value of enum bpf_attach_type, include/uapi/linux/bpf.h."""
        return name in self.fact("attach types", lambda btf: list((btf.enum("bpf_attach_type") or {}).values()))

    @property
    def kallsyms(self) -> Kallsyms:
        """The symbols of the kernel and its modules. Raises KallsymsError if the kernel hides them."""
        if self._kallsyms is None:
            self._kallsyms = Kallsyms.read(file=self._symbols)
            self._symbols = None
        return self._kallsyms

    def open_symbols(self) -> None:
        """Open now what symbols are read from: later this process may not be shown them any more."""
        if self._kallsyms is None and self._symbols is None:
            with suppress(OSError):
                self._symbols = FileIO(KALLSYMS)

    def symbol(self, address: int) -> Symbol | None:
        """Return the function that contains the address. Raises KallsymsError."""
        if not self.kallsyms.in_vmlinux(address):
            self.notice_modules()
        return self.kallsyms.lookup(address)

    def notice_modules(self) -> None:
        """Have the symbols of modules read anew, if modules have come or gone since the last time."""
        from pwru.kernel.modules import loaded

        if (modules := loaded()) != self._modules:
            self._modules = modules
            self.kallsyms.forget_modules()
            self.generation += 1

    def prepare_symbols(self) -> None:
        """Do now what would hold up a module's functions being found once it comes."""
        with suppress(KallsymsError):  # it is to be had later, or not needed
            self.kallsyms.prepare()

    def close(self) -> None:
        """Release what the symbols are read from."""
        if self._kallsyms:
            self._kallsyms.close()
        if self._symbols:
            self._symbols.close()
        self._kallsyms = self._symbols = None

    @cached_property
    def drop_reasons(self) -> DropReasons:
        """The reasons of the kernel and its modules, also of those that are loaded later."""
        return DropReasons(self.btf, self._with_new_reasons)

    def _with_new_reasons(self) -> Iterator[Btf]:
        """Yield the BTF of each module that has enums of drop reasons and was not looked at before."""
        from pwru.kernel.modules import btf_path, loaded

        for module in loaded().items() - self._looked_at:
            self._looked_at.add(module)
            with suppress(OSError, PwruError):  # it has no BTF, or is gone
                # Most have none: they are not worth a walk over all types.
                if ENUMS.encode() + b"\0" in Path(btf_path(module[0])).read_bytes():
                    yield self.module_btf(module[0])
