"""Packet filters: pcap expressions, compiled by libpcap, translated to eBPF and spliced into the object file.

Pure: needs no root and no kernel. `compile_filter()` and `splice()` are what a tracer needs.
"""

from __future__ import annotations

from pwru.errors import PwruError

from . import pcap
from .splice import splice
from .translate import Cast, translate

__all__ = ["Cast", "compile_filter", "splice"]

_REJECT = [pcap.Insn(0x06, 0, 0, 0)]  # ret #0


def compile_filter(expression: str, cast: Cast | None = None) -> dict[str, bytes]:
    """The bodies of the stubs of bpf/filter.bpf.h, by name, for a pcap-filter(7) expression.

    What does not exist without a link-layer header (`arp`, `ether host`, `vlan`) matches no packet at L3. `cast`:
    where the kernel has bpf_rdonly_cast(), see `translate()`.

    Raises PwruError: libpcap refuses the expression or is not there; it needs a loop (`protochain`); it is too long.
    """
    l2 = pcap.compile_expression(expression, pcap.DLT_EN10MB)
    try:
        l3 = pcap.compile_expression(expression, pcap.DLT_RAW)
    except PwruError:
        l3 = _REJECT
    return {"filter_l2": translate(l2, cast), "filter_l3": translate(l3, cast)}
