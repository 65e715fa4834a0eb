"""Packet filters: pcap-filter(7) to classic BPF to eBPF."""

import re
from typing import NamedTuple

# Bytes at constant offsets or at those that have a name, and the sizes of headers that are always there.
_BYTES = re.compile(r"\b([a-z0-9]+)\s*\[\s*(?:(0x[0-9a-f]+|[0-9]+)|[a-z][a-z0-9-]*)\s*(?::\s*([124])\s*)?\]")
_HEADER_SIZES = {"ether": 14, "arp": 28, "rarp": 28, "ip": 20, "ip6": 40, "tcp": 20, "udp": 8, "icmp": 8, "icmp6": 8}


class Insn(NamedTuple):
    """struct bpf_insn of pcap/bpf.h."""

    code: int
    jt: int
    jf: int
    k: int


class Filter(NamedTuple):
    """pcap-filter(7) expressions that a packet must match; "" matches any.

    `typed` is what a user wrote, `primitives` are made from parameters; all must match. The inner expressions are for
    the packet inside a tunnel, from its link layer or from its network layer on.
    """

    typed: str = ""
    primitives: tuple[str, ...] = ()
    inner_l2: str = ""
    inner_l3: str = ""

    @property
    def expression(self) -> str:
        """The whole expression for the packet itself."""
        typed = f"({self.typed})" if self.typed and self.primitives else self.typed
        return " and ".join(part for part in (typed, *self.primitives) if part)

    @property
    def says_vlan(self) -> bool:
        """Whether VLAN tags matter."""
        return re.search(r"\bvlan\b", self.expression) is not None

    @property
    def reads_payload(self) -> bool:
        """Whether it looks at bytes that may come after the headers: `tcp[20:4]`, but not `tcp[tcpflags]`."""
        text = self.expression
        return text.count("[") > sum(_is_of_header(*match.groups()) for match in _BYTES.finditer(text))

    def __bool__(self) -> bool:
        return any(self[:])


def _is_of_header(protocol: str, offset: str | None, size: str | None) -> bool:
    end = int(offset, 0 if offset.startswith("0x") else 10) + int(size or 1) if offset else 0
    return end <= _HEADER_SIZES.get(protocol, 0)
