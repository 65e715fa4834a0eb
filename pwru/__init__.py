"""pwru: packet, where are you?  Traces a packet's way through the Linux kernel, function by function.

with pwru.trace("icmp", functions="ip_rcv") as events:
    for event in events:
        print(event.function.name, event.tuple)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwru.errors import PwruError
    from pwru.live.events import Events, trace
    from pwru.record.event import Event

__version__ = "0.2.0"
__all__ = ["Event", "Events", "PwruError", "__version__", "trace"]

_HOMES = {
    "Event": "pwru.record.event",
    "Events": "pwru.live.events",
    "PwruError": "pwru.errors",
    "trace": "pwru.live.events",
}


def __getattr__(name: str) -> object:
    """Import on the first use: the command does without most of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
