"""The packet filter on an skb: the body of `int filter_packet(__u64 skb)` and its like in bpf/filter.bpf.h.

It returns 1 for a packet that matches, 0 for one that does not, and -1 for one without headers: bpf/sock.bpf.h then
runs it on those that the socket would give it. A filter on a packet's payload, which may lie in page fragments, returns
BEYOND if it needs these: bpf/fragments.bpf.h then puts the packet together.

A packet gains and loses its link-layer header on its way, so there is a program for both forms. The MAC header counts
only if it ends where the network header begins, VLAN tags apart: after an encapsulation the old one is further back,
after a decapsulation that of the outer packet may be left (ipip up to v5.13), and one that was never set is 0xffff.

Without a link-layer header nothing says that the packet is IP. That is found out in C (bpf/ip.bpf.h), and only of a
packet that would match because it is: the result is IF_IP then.

find_headers() in bpf/ finds the headers a second time, in C, once a packet matches; tests/unit/filter/headers.py runs
both on the same skbs. This code runs in every function for every packet of the machine, mostly in vain, so every
instruction counts: with the headers found in C it took 201 per hit instead of 151.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pwru.ebpf import Alu, Assembler, BPF_FUNC_probe_read_kernel, Jump, JumpTooFar, Label, Reg, Size
from pwru.errors import PwruError
from pwru.filter.load import ARRAY_OFFSET, ARRAY_SIZE, RdonlyCast, address_register, call_cast, cast_offset, load
from pwru.kernel.btf import Btf

from . import Insn
from .classic import MAC_GAP, TAG_GAP, Gap, loads_len, with_tag, without_mac
from .pcap import Programs
from .translate import BEYOND, CAPLEN, LEN, TAG, Body

ETH_HLEN = 14  # include/uapi/linux/if_ether.h
MAC_UNSET = 0xFFFF  # mac_header before it is set: skb_mac_header_was_set() in include/linux/skbuff.h
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}  # by the version of IP


class Layout(NamedTuple):
    """Offsets in struct sk_buff."""

    network_header: int
    mac_header: int
    tail: int
    head: int
    data: int
    len: int


class Tag(NamedTuple):
    """Offsets in struct sk_buff of the tag's EtherType, in network order, and of what follows it: 16 bits each."""

    vlan_proto: int
    vlan_tci: int


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg
# Registers that both programs use after the headers have been loaded: network_header, mac_header and tail as they lie
# in memory, head, the offsets of the MAC and the network header from head, and len counted from head.
_HEADERS, _HEAD, _MAC, _NETWORK, _LENGTH = R6, R1, R4, R3, R5
_COPY = -64  # on the stack: from network_header to data


def skb_layout(btf: Btf, of: type[Layout | Tag] = Layout) -> list[int]:
    """Return the offsets of one of these as JSON can hold them. Raises PwruError if the BTF lacks one."""
    skb = btf.struct("sk_buff")
    members = [skb.member(name) if skb else None for name in of._fields]
    if not all(members):
        raise PwruError(f"pcap filter: this kernel's BTF does not say where {', '.join(of._fields)} of an skb are")
    return [member.offset for member in members if member]


def filter_packet(
    programs: Programs, layout: Sequence[int], cast: RdonlyCast | None, *, max_tags: int, goes_beyond: bool = False
) -> bytes:
    """Return the instructions of `int filter_packet(__u64 skb)`.

    `layout` has the offsets of Layout; it and `cast` are the kernel's. `max_tags` is how many bytes of VLAN tags may be
    between the headers. `goes_beyond`: say so of a packet whose bytes at head are not enough, instead of rejecting it.
    Raises PwruError for a program that has a loop or is too long.
    """
    return _Packet(programs, Layout(*layout), cast, max_tags=max_tags, goes_beyond=goes_beyond).code()


def filter_tagged(
    programs: Programs,
    layout: tuple[Sequence[int], Sequence[int]],
    cast: RdonlyCast | None,
    *,
    max_tags: int,
    goes_beyond: bool = False,
) -> bytes:
    """Return the same for an skb with a VLAN tag that its bytes lack, matched as on the wire: `int filter_tagged()`.

    `layout` has the offsets of Layout and of Tag. A packet without a link-layer header has no place for a tag.
    """
    tag = Tag(*layout[1])
    return _Packet(programs, Layout(*layout[0]), cast, tag, max_tags=max_tags, goes_beyond=goes_beyond).code()


def filter_bytes(
    insns: Sequence[Insn], cast: RdonlyCast | None, *, bare: bool = False, gap: Gap | None = None
) -> bytes:
    """Return the same for what lies at an address: `int filter_inner_l2(__u64 start, __u64 captured, __u64 length)`.

    `bare`: what lies there has no link-layer header, as for filter_inner_l3(); `gap`: but the program expects one.
    """
    asm, reject = Assembler(), Label()
    asm.alu64(Alu.MOV, CAPLEN, R2)
    if loads_len(insns):
        asm.store(Size.W, R10, LEN, R3)
    if gap:
        _find_ethertype(asm, cast)
    Body(insns, cast, gap=gap, bare=bare).emit(asm, reject, lambda: None)
    if reject.index is None:
        asm.place(reject)
        asm.alu32(Alu.MOV, R0, 0)
        asm.exit()
    return encode(asm)


def filter_whole(programs: Programs, cast: RdonlyCast | None) -> dict[str, bytes]:
    """Return the bodies of filter_whole_l2() and _l3(), which take the same arguments."""
    bare = filter_bytes(programs.l3 or without_mac(programs.l2), cast, bare=True, gap=None if programs.l3 else MAC_GAP)
    return {"filter_whole_l2": filter_bytes(programs.l2, cast), "filter_whole_l3": bare}


def encode(asm: Assembler) -> bytes:
    """Return the instructions of a filter. Raises PwruError if it is too long."""
    try:
        return asm.code()
    except JumpTooFar:
        raise PwruError(
            f"pcap filter: too long: it needs {len(asm)} instructions, about 32000 are possible; "
            "shorten it, for example with `net` or `portrange` instead of many hosts or ports"
        ) from None


def _find_ethertype(asm: Assembler, cast: RdonlyCast | None) -> None:
    """Put the EtherType that a link-layer header would have at TAG. r1 keeps the address of the packet."""
    done = Label()
    asm.alu64(Alu.MOV, R7, R1)
    asm.alu64(Alu.MOV, address_register(cast), R7)
    asm.alu64(Alu.ADD, address_register(cast), -cast_offset(cast))
    load(asm, cast, Size.B, R0)
    asm.alu32(Alu.RSH, R0, 4)
    for version, ethertype in [*_ETHERTYPES.items(), (None, 0)]:
        asm.store(Size.H, R10, TAG, int.from_bytes(ethertype.to_bytes(2, "big"), "little"))
        if version is not None:
            asm.jump32(Jump.EQ, R0, version, done)
    asm.place(done)
    asm.alu64(Alu.MOV, R1, R7)


class _Packet:
    def __init__(
        self,
        programs: Programs,
        layout: Layout,
        cast: RdonlyCast | None,
        tag: Tag | None = None,
        *,
        max_tags: int,
        goes_beyond: bool,
    ) -> None:
        self._tag = tag
        self._max_tags = max_tags
        self._asm = Assembler()
        self._cast = cast
        self._layout = layout
        self._finds_ethertype = not programs.l3  # libpcap has none if the filter names the link-layer header
        l3 = programs.l3 or without_mac(programs.l2)
        self._beyond = Label()
        beyond = self._beyond if goes_beyond else None
        l2 = with_tag(programs.l2) if tag else programs.l2
        self._l2 = Body(l2, cast, gap=TAG_GAP, beyond=beyond)
        self._l3 = Body(l3, cast, gap=MAC_GAP, bare=True, beyond=beyond)
        self._uses_len = any(map(loads_len, programs))
        self._reject = Label()
        self._start = min(layout) if self._uses_len else layout.network_header  # of what is read
        network = layout.network_header
        if layout.mac_header != network + 2 or not (
            network < layout.tail < layout.head < layout.data <= network + 48
            and layout.data + 8 - self._start <= ARRAY_SIZE
        ):
            raise PwruError(
                "pcap filter: the struct sk_buff of this kernel has its headers in an order that is not known"
            )

    def code(self) -> bytes:
        asm = self._asm
        l2, l3, l3_known, unset, no_headers = Label(), Label(), Label(), Label(), Label()
        if self._tag:
            self._load_tag(self._tag)
        if self._cast:
            self._load_by_cast(self._cast)
        else:
            self._load_by_copy()
        asm.alu32(Alu.MOV, _MAC, _HEADERS)
        asm.alu32(Alu.RSH, _MAC, 16)
        asm.alu32(Alu.MOV, _NETWORK, _HEADERS)
        asm.alu32(Alu.AND, _NETWORK, 0xFFFF)
        asm.alu32(Alu.SUB, _NETWORK, _MAC)
        asm.alu32(Alu.SUB, _NETWORK, ETH_HLEN)
        asm.jump32(Jump.GT, _NETWORK, self._max_tags, l3)
        asm.place(l2)
        self._body(self._l2, _MAC)

        asm.place(l3)
        asm.alu32(Alu.ADD, _NETWORK, _MAC)
        asm.alu32(Alu.ADD, _NETWORK, ETH_HLEN)
        asm.jump32(Jump.EQ, _NETWORK, 0, unset)
        asm.place(l3_known)
        self._body(self._l3, _NETWORK)

        # A driver passes up a packet with the MAC header set (eth_type_trans()) and pulled, and no network header yet:
        # it is at data then.
        asm.place(unset)
        asm.jump32(Jump.EQ, _MAC, 0, no_headers)
        asm.jump32(Jump.EQ, _MAC, MAC_UNSET, no_headers)
        self._field(Size.DW, _NETWORK, self._layout.data)
        asm.alu64(Alu.SUB, _NETWORK, _HEAD)
        asm.jump64(Jump.EQ, _NETWORK, 0, self._reject)
        asm.jump64(Jump.GT, _NETWORK, 0xFFFF, self._reject)
        asm.alu64(Alu.OR, _HEADERS, _NETWORK)
        asm.alu32(Alu.SUB, _NETWORK, _MAC)
        asm.alu32(Alu.SUB, _NETWORK, ETH_HLEN)
        asm.jump32(Jump.LE, _NETWORK, self._max_tags, l2)
        asm.alu32(Alu.ADD, _NETWORK, _MAC)
        asm.alu32(Alu.ADD, _NETWORK, ETH_HLEN)
        asm.goto(l3_known)
        for label, verdict in ((self._reject, 0), (no_headers, -1), (self._beyond, BEYOND)):
            if label.index is None and (label.used or label is not self._beyond):
                asm.place(label)
                asm.alu32(Alu.MOV, R0, verdict)
                asm.exit()
        return encode(asm)

    def _body(self, body: Body, header: Reg) -> None:
        asm = self._asm

        def find_caplen() -> None:
            asm.alu32(Alu.MOV, R1, _HEADERS)
            if header is _MAC:
                asm.alu32(Alu.RSH, R1, 16)
            else:
                asm.alu32(Alu.AND, R1, 0xFFFF)
            asm.alu64(Alu.RSH, CAPLEN, 32)
            asm.alu32(Alu.SUB, CAPLEN, R1)

        if self._uses_len:
            asm.alu32(Alu.SUB, _LENGTH, header)
            if self._tag and header is _MAC:
                asm.alu32(Alu.ADD, _LENGTH, 4)
            asm.store(Size.W, R10, LEN, _LENGTH)
        if body.compares_caplen:
            # A header after the tail has no bytes.
            asm.alu64(Alu.RSH, CAPLEN, 32)
            asm.jump32(Jump.LT, CAPLEN, header, self._reject)
            asm.alu32(Alu.SUB, CAPLEN, header)
        asm.alu64(Alu.ADD, _HEAD, header)
        if body is self._l3 and self._finds_ethertype:
            _find_ethertype(self._asm, self._cast)
        body.emit(asm, self._reject, find_caplen)

    def _load_tag(self, tag: Tag) -> None:
        asm = self._asm
        asm.alu64(Alu.MOV, R6, R1)
        for index, offset in enumerate(tag):
            asm.alu64(Alu.MOV, R1, R10)
            asm.alu64(Alu.ADD, R1, TAG + 2 * index)
            asm.alu32(Alu.MOV, R2, 2)
            asm.alu64(Alu.MOV, R3, R6)
            asm.alu64(Alu.ADD, R3, offset)
            asm.call(BPF_FUNC_probe_read_kernel)
        asm.load(Size.H, R2, R10, TAG + 2)
        asm.to_be(Size.H, R2)
        asm.store(Size.H, R10, TAG + 2, R2)
        asm.alu64(Alu.MOV, R1, R6)

    def _load_by_cast(self, cast: RdonlyCast) -> None:
        """Load the headers with one cast, to a struct whose array begins at the first field."""
        asm, layout = self._asm, self._layout
        asm.alu64(Alu.ADD, R1, self._start - ARRAY_OFFSET)
        call_cast(asm, cast)
        self._field(Size.DW, _HEADERS, layout.network_header)
        if layout.tail != layout.network_header + 4:  # CONFIG_KCOV puts a handle between
            asm.alu32(Alu.MOV, _HEADERS, _HEADERS)
            self._field(Size.W, R2, layout.tail)
            asm.alu64(Alu.LSH, R2, 32)
            asm.alu64(Alu.OR, _HEADERS, R2)
        self._field(Size.DW, _HEAD, layout.head)
        if self._uses_len:
            self._field(Size.W, _LENGTH, layout.len)
            self._field(Size.DW, R2, layout.data)
            self._add_data()

    def _add_data(self) -> None:
        """Count len from head instead of data, which is in r2."""
        self._asm.alu64(Alu.SUB, R2, _HEAD)
        self._asm.alu32(Alu.ADD, _LENGTH, R2)

    def _load_by_copy(self) -> None:
        """Load the headers with one call; what cannot be read is 0."""
        asm, layout = self._asm, self._layout
        if self._uses_len:
            asm.alu64(Alu.MOV, R7, R1)
            asm.alu64(Alu.MOV, R3, R1)
            asm.alu64(Alu.ADD, R3, layout.len)
            load(asm, None, Size.W, R8)
            asm.alu64(Alu.MOV, R1, R7)
        asm.alu64(Alu.MOV, R3, R1)
        asm.alu64(Alu.ADD, R3, layout.network_header)
        asm.alu64(Alu.MOV, R1, R10)
        asm.alu64(Alu.ADD, R1, self._copied(layout.network_header))
        asm.alu32(Alu.MOV, R2, layout.data + 8 - layout.network_header)
        asm.call(BPF_FUNC_probe_read_kernel)
        self._field(Size.W, _HEADERS, layout.tail)
        asm.alu64(Alu.LSH, _HEADERS, 32)
        self._field(Size.W, R0, layout.network_header)
        asm.alu64(Alu.OR, _HEADERS, R0)
        self._field(Size.DW, _HEAD, layout.head)
        if self._uses_len:
            asm.alu32(Alu.MOV, _LENGTH, R8)
            self._field(Size.DW, R2, layout.data)
            self._add_data()

    def _copied(self, offset: int) -> int:
        """Return where a copied field is on the stack. head, the widest, is aligned."""
        return _COPY + offset - self._layout.network_header + (self._layout.network_header - self._layout.head) % 8

    def _field(self, size: Size, register: Reg, offset: int) -> None:
        if self._cast:
            self._asm.load(size, register, R0, ARRAY_OFFSET + offset - self._start)
        else:
            self._asm.load(size, register, R10, self._copied(offset))
