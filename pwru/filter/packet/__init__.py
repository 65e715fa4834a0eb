"""Packet filters: pcap-filter(7) to classic BPF to eBPF."""

import re
from typing import NamedTuple


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

    def __bool__(self) -> bool:
        return any(self[:])
