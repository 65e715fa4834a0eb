"""Ways to attach to a kernel: one module per backend, all with one interface.

Only an attempt shows whether attaching is refused, so try them in the order of BACKENDS: the next one on Refused.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line needs the names only, and libbpf takes 10 ms
    from pwru.live.backends.base import Backend

# The classes, best first; a module has the name of its backend, with _ for -.
_CLASSES = {
    "kprobe-multi": "KprobeMulti",
    "fentry-multi": "FentryMulti",
    "kprobe": "Kprobe",
    "fentry": "Fentry",
    "tracepoint": "Tracepoints",
}
BACKENDS = tuple(_CLASSES)


def backend(name: str) -> type[Backend]:
    """Return a backend by its name; only its module is imported."""
    module = import_module(f"pwru.live.backends.{name.replace('-', '_')}")
    return getattr(module, _CLASSES[name])  # type: ignore[no-any-return]
