"""Kernel modules of a trace: whose functions are wanted, and what comes while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pwru.errors import PwruError, abbreviate
from pwru.live.backends.how import Refused

if TYPE_CHECKING:
    from pwru.kernel.places import Places
    from pwru.live.backends.base import Backend
    from pwru.live.program import Program
    from pwru.live.request import Request
    from pwru.live.watch import Watch


class Modules:
    """The modules that one run asks for: `chosen` have BTF and are loaded, `watch` notices more, if it is there."""

    def __init__(self, request: Request, on_message: Callable[[str], None]) -> None:
        """Say what is unavailable. Raises PwruError for a named module that cannot be traced."""
        self._say = on_message
        self.watch: Watch | None = None
        self.chosen: list[str] = []
        if not request.modules and not request.all_modules:
            return
        from pwru.kernel import modules

        self.chosen = modules.resolve(request.modules)
        if request.all_modules:
            self._choose_all()

    def _choose_all(self) -> None:
        from pwru.kernel import modules
        from pwru.live.watch import Watch

        try:
            self.watch = Watch()
        except OSError as error:
            self._say(f"Cannot watch for modules loaded later: {error.strerror}.")
        loaded = self.watch.modules if self.watch else list(modules.loaded())
        unknown = modules.without_btf(loaded)
        self.chosen = [module for module in loaded if module not in unknown]
        if unknown and not self.chosen:
            self._say(f"Not traced: functions of modules: {modules.NO_BTF}.")
            self.close()
        elif unknown:
            self._say(f"Not traced: functions of {abbreviate(unknown)}: built without BTF.")

    def close(self) -> None:
        if self.watch:
            self.watch.close()
            self.watch = None

    def attach_new(self, places: Places, backend: Backend, program: Program) -> None:
        """Attach to modules loaded since the last call. What cannot be done is said: the trace goes on."""
        if not self.watch or not (loaded := self.watch.new()):
            return
        from pwru.kernel import modules

        unknown = modules.without_btf(loaded)
        if unknown:
            self._say(f"Not traced: functions of {abbreviate(unknown)}: built without BTF.")
        try:
            targets = places.in_new_modules([module for module in loaded if module not in unknown])
            for module in sorted({target.module or "" for target in targets}):
                of_module = [target for target in targets if target.module == module]
                try:
                    count = backend.attach_more(program, of_module)
                except (Refused, OSError) as error:
                    self._say(f"Not traced: functions of {module}: {error}.")
                else:
                    self._say(f"Attached to {count} function{'s' * (count != 1)} of {module}.")
        except PwruError as error:
            self._say(f"Not traced: functions of {abbreviate(loaded)}: {error}.")
