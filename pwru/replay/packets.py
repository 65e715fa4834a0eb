"""The packet filter on recorded bytes: libpcap runs its own program."""

from __future__ import annotations

from collections.abc import Callable

from pwru.filter.packet import Filter
from pwru.filter.packet.pcap import Programs, compile_filter, runner
from pwru.record.parts import Payload
from pwru.replay.tunnels import find_tunnel


def packet_test(wanted: Filter) -> Callable[[Payload], bool]:
    """Return what tells whether a packet matches, as far as its bytes were recorded. Raises PwruError for a mistake.

    What lies beyond them matches nothing, as in a capture that is cut (tcpdump -s). A VLAN tag that the kernel keeps
    apart from the bytes is there for filters that say `vlan`, as in a live trace: for others it is not in the way.
    """
    programs = compile_filter(wanted)
    says_vlan = wanted.says_vlan
    with_mac, without = runner(programs.l2), runner(programs.l3)

    def test(payload: Payload) -> bool:
        length, has_mac, data, _ = payload.on_wire() if says_vlan else payload
        return (with_mac if has_mac else without)(data, length)

    if not (programs.inner_l2 or programs.inner_l3):
        return test
    inner_test = _inner_test(programs)
    return (lambda payload: test(payload) and inner_test(payload)) if wanted.expression else inner_test


def _inner_test(programs: Programs) -> Callable[[Payload], bool]:
    """Return what tells whether the packet inside matches; what carries none, as far as is known, does."""
    frame, packet = (runner(program) if program else None for program in (programs.inner_l2, programs.inner_l3))

    def test(payload: Payload) -> bool:
        length, has_mac, data, _ = payload
        mac, network = find_tunnel(data, has_mac=has_mac)
        if frame and mac is not None and not frame(data[mac:], length - mac):
            return False
        return packet is None or network is None or packet(data[network:], length - network)

    return test
