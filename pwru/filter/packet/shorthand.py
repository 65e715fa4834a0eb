"""Primitives that parameters stand for (`src_ip`, `dport` …), compiled without libpcap, whose programs look only where
these are most often: after an Ethernet header without VLAN tags, and right after the IP header.

These find addresses, protocols and ports where the tuple of an event does (bpf/tuple.bpf.h): past up to four tags and
eight extension headers of IPv6. Otherwise they mean what they mean in pcap-filter(7).
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from pwru.ebpf import Alu, Jump, Label, Size

from . import Insn
from .classic import REJECT, Class, Mode, X
from .headers import AH, ARPS, FRAGMENT, IP, IP6, MAX_EXTENSION_HEADERS, MAX_TAGS, OPTIONS, TAGS

_ETHERTYPE = 12  # where it is in a frame
_ACCEPT = 262144  # what libpcap's programs return

_WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP
_BEFORE = 16  # X points so far before an extension header: a load at X + 16 is never in a frame's tag (classic.py)

# Numbers of protocols, and the versions of IP that pcap-filter(7) means by the name.
_PROTOCOLS = {
    **{name: (number, (4, 6)) for name, number in {"ah": 51, "esp": 50, "pim": 103, "sctp": 132}.items()},
    **{name: (number, (4, 6)) for name, number in {"tcp": 6, "udp": 17}.items()},
    **{name: (number, (4,)) for name, number in {"icmp": 1, "igmp": 2, "igrp": 9, "carp": 112, "vrrp": 112}.items()},
    "icmp6": (58, (6,)),
}


class _Code:
    """A program that is being made, with labels for what jumps lead to."""

    def __init__(self) -> None:
        self._insns: list[tuple[int, int, Label | None, Label | None]] = []
        self.reject = Label()

    def emit(self, code: int, k: int = 0) -> None:
        self._insns.append((code, k, None, None))

    def load(self, size: Size, k: int, mode: Mode = Mode.ABS) -> None:
        self.emit(Class.LD | size | mode, k)

    def jump(self, condition: Jump, k: int, true: Label | None, false: Label | None = None) -> None:
        """Jump to one of the labels; None is the next instruction."""
        for label in filter(None, (true, false)):
            label.used = True
        self._insns.append((Class.JMP | condition, k, true, false))

    def goto(self, label: Label) -> None:
        label.used = True
        self._insns.append((Class.JMP, 0, label, None))

    def one_of(self, values: Sequence[int], found: Label, other: Label | None = None) -> None:
        """Jump to `found` if A is one of these, else to `other`."""
        for value in values:
            self.jump(Jump.EQ, value, found, other if value == values[-1] else None)

    def place(self, label: Label) -> None:
        label.index = len(self._insns)

    def insns(self, following: Sequence[Insn]) -> list[Insn]:
        """Return the program, which goes on with `following`."""
        self.reject.index = len(self._insns) + len(following)
        made = []
        for at, (code, k, true, false) in enumerate(self._insns):
            jt, jf = (label.index - at - 1 if label and label.index is not None else 0 for label in (true, false))
            made.append(Insn(int(code), 0, 0, jt) if code == Class.JMP else Insn(int(code), jt, jf, k))
        return [*made, *following, REJECT]


class Ends(NamedTuple):
    """Where to go if the packet matches; if A may be an extension header, which begins at X + _BEFORE."""

    matched: Label
    walk: Label


_Emit = Callable[[_Code, int, Ends], None]


class Shorthand(NamedTuple):
    """What to do with a packet whose network header is at a constant offset: it rejects or goes to an end.

    None: no packet of this kind matches. `walk` goes on with extension headers.
    """

    ip: _Emit | None = None
    ip6: _Emit | None = None
    arp: _Emit | None = None
    walk: Callable[[_Code, Label], None] | None = None


def find_shorthand(primitive: str) -> Shorthand | None:
    """Return what a primitive means; None for what is better left to libpcap."""
    if match := re.fullmatch(r"(src|dst) (?:host|net) (\S+)", primitive):
        return _of_address(is_source=match[1] == "src", text=match[2])
    if match := re.fullmatch(r"(src|dst) port ([0-9]{1,5})", primitive):
        side, port = 2 * (match[1] == "dst"), int(match[2])
        ip, ip6, walk = (partial(each, side=side, port=port) for each in (_ip_port, _ip6_port, _walk_to_port))
        return Shorthand(ip, ip6, walk=walk)
    if match := re.fullmatch(r"\(ip proto ([0-9]{1,3}) or ip6 proto \1\)", primitive):
        return _of_protocol(int(match[1]), (4, 6))
    if primitive in _PROTOCOLS:
        return _of_protocol(*_PROTOCOLS[primitive])
    return {"ip": Shorthand(ip=_any), "ip6": Shorthand(ip6=_any)}.get(primitive)


def _of_address(*, is_source: bool, text: str) -> Shorthand | None:
    import ipaddress

    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    words = list(zip(_words(network.network_address.packed), _words(network.netmask.packed), strict=True))
    if network.version == 6:
        return Shorthand(ip6=partial(_compare, at=8 if is_source else 24, words=words))
    return Shorthand(
        partial(_compare, at=12 if is_source else 16, words=words),
        arp=partial(_compare, at=14 if is_source else 24, words=words),
    )


def _words(address: bytes) -> list[int]:
    return [int.from_bytes(address[at : at + 4], "big") for at in range(0, len(address), 4)]


def _of_protocol(number: int, versions: Sequence[int]) -> Shorthand:
    return Shorthand(
        partial(_ip_protocol, number=number) if 4 in versions else None,
        partial(_ip6_protocol, number=number) if 6 in versions else None,
        walk=partial(_walk_to_protocol, number=number),
    )


def join(shorthands: Sequence[Shorthand], following: Sequence[Insn], *, bare: bool) -> list[Insn]:
    """Return a program for what matches all of them and `following`, a program; that may be empty.

    `bare`: it is for packets without a link-layer header.
    """
    code = _Code()
    for shorthand in shorthands:
        ends = Ends(Label(), Label())
        (_from_ip if bare else _from_mac)(code, shorthand, ends)
        if ends.walk.used and shorthand.walk:
            code.place(ends.walk)
            shorthand.walk(code, ends.matched)
        code.place(ends.matched)
    return code.insns(following or [REJECT._replace(k=_ACCEPT)])


def _from_ip(code: _Code, shorthand: Shorthand, ends: Ends) -> None:
    labels = (Label(), Label())
    code.load(Size.B, 0)
    code.emit(Class.ALU | Alu.AND, 0xF0)
    for version, label, emit in zip((0x40, 0x60), labels, shorthand[:2], strict=True):
        if emit:
            code.jump(Jump.EQ, version, label)
    code.goto(code.reject)
    for label, emit in zip(labels, shorthand[:2], strict=True):
        if emit:
            code.place(label)
            emit(code, 0, ends)


def _from_mac(code: _Code, shorthand: Shorthand, ends: Ends) -> None:
    for at in range(_ETHERTYPE, _ETHERTYPE + 4 * (MAX_TAGS + 1), 4):
        tagged = Label()
        code.load(Size.H, at)
        kinds = list(zip(((IP,), (IP6,), ARPS), (Label(), Label(), Label()), shorthand[:3], strict=True))
        for types, label, emit in kinds[:2]:  # the most frequent ones, even if they do not match
            code.one_of(types, label if emit else code.reject)
        if shorthand.arp:
            code.one_of(ARPS, kinds[2][1])
        if at < _ETHERTYPE + 4 * MAX_TAGS:
            code.one_of(TAGS, tagged, code.reject)
        else:
            code.goto(code.reject)
        for _, label, emit in kinds:
            if emit:
                code.place(label)
                emit(code, at + 2, ends)
        code.place(tagged)


def _any(code: _Code, _network: int, ends: Ends) -> None:
    code.goto(ends.matched)


def _compare(code: _Code, network: int, ends: Ends, *, at: int, words: Sequence[tuple[int, int]]) -> None:
    for index, (word, mask) in enumerate(words):
        if mask:
            code.load(Size.W, network + at + 4 * index)
            if mask != 0xFFFFFFFF:
                code.emit(Class.ALU | Alu.AND, mask)
            code.jump(Jump.EQ, word, None, code.reject)
    code.goto(ends.matched)


def _ip_protocol(code: _Code, network: int, ends: Ends, *, number: int) -> None:
    code.load(Size.B, network + 9)
    code.jump(Jump.EQ, number, ends.matched, code.reject)


def _ip6_protocol(code: _Code, network: int, ends: Ends, *, number: int) -> None:
    code.load(Size.B, network + 6)
    code.jump(Jump.EQ, number, ends.matched)
    _start_walk(code, network, ends)


def _walk_to_protocol(code: _Code, matched: Label, *, number: int) -> None:
    _walk(code, (number,), matched, of_fragment=matched)


def _ip_port(code: _Code, network: int, ends: Ends, *, side: int, port: int) -> None:
    has_ports = Label()
    code.load(Size.B, network + 9)
    code.one_of(_WITH_PORTS, has_ports, code.reject)
    code.place(has_ports)
    code.load(Size.H, network + 6)
    code.jump(Jump.SET, 0x1FFF, code.reject)  # not the first fragment
    code.emit(Class.LDX | Size.B | Mode.MSH, network)
    code.load(Size.H, network + side, Mode.IND)
    code.jump(Jump.EQ, port, ends.matched, code.reject)


def _ip6_port(code: _Code, network: int, ends: Ends, *, side: int, port: int) -> None:
    has_ports = Label()
    code.load(Size.B, network + 6)
    code.one_of(_WITH_PORTS, has_ports)
    _start_walk(code, network, ends)
    code.place(has_ports)
    code.load(Size.H, network + 40 + side)
    code.jump(Jump.EQ, port, ends.matched, code.reject)


def _walk_to_port(code: _Code, matched: Label, *, side: int, port: int) -> None:
    found = Label()
    _walk(code, _WITH_PORTS, found, of_fragment=None)
    code.place(found)
    code.load(Size.H, _BEFORE + side, Mode.IND)
    code.jump(Jump.EQ, port, matched, code.reject)


def _start_walk(code: _Code, network: int, ends: Ends) -> None:
    code.emit(Class.LDX | Mode.IMM, network + 40 - _BEFORE)
    code.goto(ends.walk)


def _walk(code: _Code, wanted: Sequence[int], found: Label, *, of_fragment: Label | None) -> None:
    """Find one of the `wanted` protocols after extension headers of IPv6; X is where it begins, less _BEFORE.

    The walk ends in a fragment that is not the first: `of_fragment` is where to go if it is of a wanted protocol.
    """
    for _ in range(MAX_EXTENSION_HEADERS):
        options, fragment, authentication, following = Label(), Label(), Label(), Label()
        code.one_of(OPTIONS, options)
        code.jump(Jump.EQ, FRAGMENT, fragment)
        code.jump(Jump.EQ, AH, authentication, code.reject)
        code.place(fragment)
        first = Label()
        code.load(Size.H, _BEFORE + 2, Mode.IND)
        code.jump(Jump.SET, 0xFFF8, None if of_fragment else code.reject, first)
        if of_fragment:
            code.load(Size.B, _BEFORE, Mode.IND)
            code.one_of(wanted, of_fragment, code.reject)
        code.place(first)
        code.emit(Class.LD | Mode.IMM, 8)
        code.goto(following)

        code.place(authentication)  # RFC 4302 counts in 4 bytes
        code.load(Size.B, _BEFORE + 1, Mode.IND)
        code.emit(Class.ALU | Alu.ADD, 2)
        code.emit(Class.ALU | Alu.LSH, 2)
        code.goto(following)

        code.place(options)
        code.load(Size.B, _BEFORE + 1, Mode.IND)
        code.emit(Class.ALU | Alu.ADD, 1)
        code.emit(Class.ALU | Alu.LSH, 3)

        code.place(following)
        code.emit(Class.ALU | Alu.ADD | X)
        code.emit(Class.ST, 0)
        code.load(Size.B, _BEFORE, Mode.IND)
        code.emit(Class.LDX | Mode.MEM, 0)
        code.one_of(wanted, found)
    code.goto(code.reject)
