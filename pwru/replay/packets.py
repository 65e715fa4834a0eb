"""The packet filter on recorded bytes: libpcap runs its own program."""

from __future__ import annotations

from collections.abc import Callable

from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import compile_filter, runner
from pwru.record.parts import Payload


def packet_test(wanted: Filter) -> Callable[[Payload], bool]:
    """Return what tells whether a packet matches, as far as its bytes were recorded. Raises PwruError for a mistake.

    What lies beyond them matches nothing, as in a capture that is cut (tcpdump -s).
    """
    programs = compile_filter(wanted)
    with_mac, without = runner(programs.l2), runner(programs.l3)

    def test(payload: Payload) -> bool:
        length, has_mac, data, _ = payload.on_wire()
        return (with_mac if has_mac else without)(data, length)

    return test
