"""pwru: packet, where are you?  Traces a packet's way through the Linux kernel, function by function.

with pwru.trace("icmp", functions="ip_rcv") as events:
    for event in events:
        print(event.function.name, event.tuple)

pwru.open("trace.pwru") gives the same of a recording; to_arrow() and to_parquet() make tables of either.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwru.errors import PwruError
    from pwru.live.events import Events, trace
    from pwru.record.event import Event
    from pwru.replay.events import Recorded, open

__version__ = "0.3.0"
__all__ = ["Event", "Events", "PwruError", "Recorded", "__version__", "open", "trace"]

_HOMES = {
    "Event": "pwru.record.event",
    "Events": "pwru.live.events",
    "PwruError": "pwru.errors",
    "Recorded": "pwru.replay.events",
    "open": "pwru.replay.events",
    "trace": "pwru.live.events",
}


def __getattr__(name: str) -> object:
    """Import on the first use: the command does without most of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
