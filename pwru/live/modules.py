"""Kernel modules of a trace: whose functions are wanted, and what comes and goes while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from pwru.errors import PwruError, abbreviate
from pwru.live.backends.how import Refused

if TYPE_CHECKING:
    from pwru.kernel.functions import Target
    from pwru.kernel.places import Places
    from pwru.libbpf import RingBuffer
    from pwru.live.backends.base import Backend
    from pwru.live.program import Program
    from pwru.live.request import Request
    from pwru.live.watch import Changes, Watch

_TOO_QUICK = "unloaded before they could be attached to"


class Running(NamedTuple):
    """What modules that come are attached with."""

    places: Places
    backend: Backend
    program: Program


class Modules:
    """The modules that one run asks for: `chosen` have BTF and are loaded, `watch` notices others, if it is there.

    Named modules are watched, too: they may be loaded again.
    """

    def __init__(self, request: Request, on_message: Callable[[str], None]) -> None:
        """Say what is unavailable. Raises PwruError for a named module that cannot be traced."""
        self._say = on_message
        self._all = request.all_modules
        self._quick: set[str] = set()  # those of which it was said that they were too quick
        self._gone: dict[str, int] = {}
        self._read_first = 0  # the position in the ring buffer up to which hits may be in modules that have gone
        self.watch: Watch | None = None
        self.chosen: list[str] = []
        if not request.modules and not request.all_modules:
            return
        from pwru.kernel import modules
        from pwru.live.watch import Watch

        self.chosen = modules.resolve(request.modules)
        try:
            self.watch = Watch()
        except OSError as error:
            self._say(f"Cannot watch for modules loaded later: {error.strerror}.")
        if self._all:
            self._choose_all()

    def _choose_all(self) -> None:
        from pwru.kernel import modules

        loaded = self.watch.modules if self.watch else list(modules.loaded())
        unknown = modules.without_btf(loaded)
        self.chosen = [module for module in loaded if module not in unknown]
        if unknown and not self.chosen:
            self._say(f"Not traced: functions of modules: {modules.NO_BTF}.")
            self.close()
        elif unknown:
            self._not_traced(unknown, "built without BTF")

    def _not_traced(self, modules: Iterable[str], reason: str) -> None:
        self._say(f"Not traced: functions of {abbreviate(list(modules))}: {reason}.")

    def close(self) -> None:
        if self.watch:
            self.watch.close()
            self.watch = None

    def follow(self, running: Running, ring: RingBuffer) -> None:
        """Attach to modules that have come, and give back what belonged to those that have gone.

        What cannot be done is said: the trace goes on.
        """
        if not self.watch or not (self.watch.notified() or self._gone):
            return
        changes = self.watch.changes()
        if changes.gone.items() - self._gone.items():
            self._gone, self._read_first = changes.gone, ring.produced
        if self._gone and ring.consumed < self._read_first:
            return  # their addresses may be used again: first those records are read that mean the old functions
        self._gone = {}
        self.watch.accept(changes)
        give_back = running.backend.forget(changes.gone)
        self._attach(changes, running)
        give_back()
        running.places.kernel.prepare_symbols()

    def _attach(self, changes: Changes, running: Running) -> None:
        from pwru.kernel import modules

        new = {module: inode for module, inode in changes.new.items() if self._all or module in self.chosen}
        quick = [module for module in changes.missed if self._all or module in self.chosen]
        unknown = modules.without_btf(new)
        targets: list[Target] = []
        if new:
            try:
                targets = running.places.in_new_modules([module for module in new if module not in unknown])
            except PwruError as error:
                self._not_traced(new, str(error))
                return
        there = modules.loaded()
        if built_without := [module for module in unknown if there.get(module) == new[module]]:
            self._not_traced(built_without, "built without BTF")
        for module, inode in new.items():
            failed = attached = ""
            of_module = [target for target in targets if target.module == module]
            try:
                if of_module:
                    count = running.backend.attach_module(running.program, module, of_module)
                    attached = f"Attached to {count} function{'s' * (count != 1)} of {module}."
            except (Refused, OSError, PwruError) as error:
                failed = str(error)
            if modules.loaded().get(module) != inode:
                quick.append(module)
            elif failed:
                self._not_traced([module], failed)
            elif attached:
                self._say(attached)
        if quick := [module for module in quick if module not in self._quick]:
            self._quick.update(quick)
            self._not_traced(quick, _TOO_QUICK)
