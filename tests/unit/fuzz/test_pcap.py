"""pcap expressions as eBPF: valid ones mean what libpcap's interpreter makes of them, invalid ones are refused.

The eBPF runs in Python here, so that every case is checked; a kernel checks fewer in tests/unit/filter/verdicts.py.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pwru.errors import PwruError
from pwru.filter.load import RdonlyCast
from pwru.filter.packet import Filter, Insn
from pwru.filter.packet.classic import REJECT, loads_len
from pwru.filter.packet.pcap import Programs, compile_filter
from pwru.filter.packet.skb import ETH_HLEN, MAC_UNSET, Layout, Tag, filter_bytes, filter_packet, filter_tagged
from pwru.filter.packet.xdp import filter_xdp
from tests.unit.filter import expressions, harness, interpreter, packets, programs

from .limits import bounded, cases

CASTS = (None, RdonlyCast(kfunc_id=0x1234, struct_id=0x5678))
LAYOUT = Layout(network_header=184, mac_header=186, tail=188, head=200, data=208, len=112)
WITH_KCOV = LAYOUT._replace(tail=200, head=208, data=216)
SKB, HEAD = 0xFFFF888000001000, 0xFFFF888000010000
HEADROOM, TAILROOM = 64, 320  # before a packet, and what can be read after it: struct skb_shared_info
TAG = Tag(vlan_proto=156, vlan_tci=158)
PACKETS = 3
# No other words: libpcap asks the name service for them.
WORDS = [
    *("ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ether", "fddi", "tr", "wlan", "link"),
    *("host", "net", "port", "portrange", "proto", "protochain", "gateway", "mask", "src", "dst", "and", "or", "not"),
    *("vlan", "mpls", "pppoes", "pppoed", "geneve", "broadcast", "multicast", "inbound", "outbound", "less", "greater"),
    *("len", "byte", "ifname", "reason", "action", "atalk", "aarp", "iso", "stp", "ipx", "netbeui", "esp", "ah", "pim"),
    *("vrrp", "carp", "llc", "lat", "moprc", "decnet", "radio", "ra", "ta", "addr1", "type", "subtype", "dir", "metac"),
    *("icmptype", "icmp-echo", "tcpflags", "tcp-syn", "icmp6type", "icmp6-echo", "vci", "vpi", "lane", "oam", "sio"),
    *(
        "10.0.0.1",
        "10.0.0",
        "10",
        "10.0.0.0/8",
        "1.2.3.4/33",
        "::1",
        "fe80::1",
        "2001:db8::/32",
        "::/129",
        "::ffff:1.2",
    ),
    *(
        "02:00:00:00:00:01",
        "0",
        "1",
        "6",
        "44",
        "80",
        "65535",
        "65536",
        "0x800",
        "4294967295",
        "4294967296",
        "010",
        "08",
    ),
    *("1-1024", "99999999999999999999", "[0]", "[0:4]", "[0:3]", "[4:2]", "&", "|", "&&", "||", "!", "=", "==", "!="),
    *("<", "<=", ">", ">=", "<<", ">>", "+", "-", "*", "/", "%", "^", "(", ")", "[", "]", ":", "$", "\\", "\\tcp", "'"),
]
NOISE = re.compile("[A-Za-z]")


def changed(rng: Random, text: str) -> str:
    """Return the text with words lost, doubled, moved or replaced; sometimes with other bytes between."""
    words = re.findall(r"[\w.:/-]+|\S", text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(words) + 1)
        match rng.randrange(5):
            case 0:
                del words[place : place + rng.choice([1, 1, 2, 10])]
            case 1:
                words[place:place] = words[: rng.choice([1, 3, 20])]
            case 2:
                words.insert(place, rng.choice(WORDS))
            case 3:
                words[place : place + 1] = [rng.choice(WORDS)]
            case 4:
                words.insert(place, NOISE.sub("", os.fsdecode(rng.randbytes(rng.choice([1, 4]))).replace("\0", "")))
    return " ".join(words)


def text(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return expressions.expression(rng)
    if kind < 0.5:
        return " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2, 5, 20])))
    if kind < 0.52:
        return expressions.expression(rng) + rng.choice([" and ", " or "]).join(
            ["", *[expressions.expression(rng)] * 30]
        )
    return changed(rng, rng.choice([rng.choice(expressions.REAL), expressions.expression(rng)]))


def verdict(
    code: bytes,
    packet: packets.Packet,
    mac: int,
    network: int,
    *,
    proto: int = 0,
    tci: int = 0,
    layout: Layout = LAYOUT,
) -> bool:
    skb = bytearray(256)
    struct.pack_into("!H", skb, TAG.vlan_proto, proto)
    struct.pack_into("=H", skb, TAG.vlan_tci, tci)
    struct.pack_into("=HHI", skb, layout.network_header, network, mac, 0xDEADBEEF)
    struct.pack_into("=I", skb, layout.tail, HEADROOM + len(packet.data))
    struct.pack_into("=QQ", skb, layout.head, HEAD, HEAD + HEADROOM)
    struct.pack_into("=I", skb, layout.len, packet.len)
    memory = {SKB: bytes(skb), HEAD: bytes(HEADROOM) + packet.data + bytes(TAILROOM)}

    def read(address: int, size: int) -> bytes:
        start = max(start for start in memory if start <= address)
        data = memory[start][address - start :][:size]
        assert len(data) == size, "beyond the packet"
        return data

    return interpreter.run(code, SKB, read) != 0


def xdp_verdict(code: bytes, packet: packets.Packet) -> bool:
    data = packet.data
    memory = {SKB: struct.pack("=QQ", HEAD, HEAD + len(data)), HEAD: data + bytes(TAILROOM)}

    def read(address: int, size: int) -> bytes:
        start = max(start for start in memory if start <= address)
        return memory[start][address - start :][:size]

    return interpreter.run(code, SKB, read) != 0


def bytes_verdict(code: bytes, packet: packets.Packet) -> bool:
    memory = packet.data + bytes(TAILROOM)

    def read(address: int, size: int) -> bytes:
        return memory[address - HEAD :][:size]

    return interpreter.run(code, HEAD, read, len(packet.data), packet.len) != 0


def compare(insns: Sequence[Insn], rng: Random) -> None:
    """Compare as the program for packets with a link-layer header, without one, inside a tunnel, and for XDP."""
    sent = [packets.packet(rng) for _ in range(PACKETS)]
    expected = harness.libpcap_verdicts(insns, sent)
    for cast in CASTS:
        l2 = filter_packet(Programs(insns, [REJECT]), LAYOUT, cast, max_tags=harness.max_tags())
        with_kcov = filter_packet(Programs(insns, [REJECT]), WITH_KCOV, cast, max_tags=harness.max_tags())
        l3 = filter_packet(Programs([REJECT], insns), LAYOUT, cast, max_tags=harness.max_tags())
        inner = [filter_bytes(insns, cast, bare=bare) for bare in (False, True)]
        xdp = filter_xdp(insns, (0, 8), cast)
        for packet, matches in zip(sent, expected, strict=True):
            matches = matches and bool(packet.data)  # noqa: PLW2901  (there is no header)
            assert verdict(l2, packet, HEADROOM, HEADROOM + ETH_HLEN) == matches
            if packet.len == len(packet.data):  # all of it is at data
                assert xdp_verdict(xdp, packet) == matches
            assert verdict(with_kcov, packet, HEADROOM, HEADROOM + ETH_HLEN, layout=WITH_KCOV) == matches
            assert verdict(l3, packet, MAC_UNSET, HEADROOM) == matches
            assert [bytes_verdict(code, packet) for code in inner] == [matches, matches]


@cases
@given(st.integers(0, 2**64))
def test_expressions(seed: int) -> None:
    rng = Random(seed)
    expression = text(rng)
    wanted = Filter(expression, ("tcp port 80",) if rng.random() < 0.5 else ())
    print(repr(wanted.expression))  # seen of a case that fails
    with bounded():
        try:
            compiled = compile_filter(wanted)
        except PwruError as error:
            assert "pcap filter" in str(error)  # noqa: PT017
            raise
        for insns in filter(None, (compiled.l2, compiled.l3)):
            compare(insns, rng)


@cases
@given(st.integers(0, 2**64))
def test_without_a_link_layer_header(seed: int) -> None:
    """If libpcap has no program for that, a packet counts as one with the EtherType of its version of IP."""
    rng = Random(seed)
    link = rng.choice(
        [
            *("ether broadcast", "ether host 02:00:00:00:00:01", "vlan", "ether src 0:0:0:0:0:0", "ether[0]=0"),
            *("ether[10:4] = 0x800", "ether[12:4] & 0xff = 0", "ether[ip[0] & 0xf:2] != 0", "link[ip[8]:4] > 5"),
        ]
    )
    other = expressions.expression(rng)
    whole = rng.choice([f"{link} or ({other})", f"not {link} and ({other})", f"({other}) and not {link}"])
    print(repr(whole))  # seen of a case that fails
    with bounded():
        insns = compile_filter(Filter(whole)).l2
        if loads_len(insns):
            return  # the length is counted from the first header, which is missing
        for cast in CASTS:
            code = filter_packet(Programs(insns, []), LAYOUT, cast, max_tags=harness.max_tags())
            for _ in range(PACKETS):
                packet = packets.packet(rng)
                data = packet.data[rng.choice([0, ETH_HLEN]) :]
                if not data:
                    continue
                header = bytes(12) + struct.pack("!H", {4: 0x0800, 6: 0x86DD}.get(data[0] >> 4, 0))
                (expected,) = harness.libpcap_verdicts(insns, [packets.Packet(header + data, len(header + data))])
                assert verdict(code, packets.Packet(data, len(data)), MAC_UNSET, HEADROOM) == expected
                # A header further back does not count: it is that of a packet that this one was in.
                assert verdict(code, packets.Packet(data, len(data)), HEADROOM - 34, HEADROOM) == expected


@cases
@given(st.integers(0, 2**64))
def test_tags(seed: int) -> None:
    """A packet whose tag is the skb's own is taken for what it is on the wire."""
    rng = Random(seed)
    vlan = rng.choice(["vlan", "vlan 10", "vlan 10 and vlan 20", "not vlan", "ether[10:4] & 0xff = 0x81"])
    vlan = rng.choice([vlan, vlan, "(vlan and ether[ip[0] & 0xf:2] > 2)", "ether[11:2] & 1 = 1"])
    other = expressions.expression(rng)
    whole = rng.choice([vlan, f"{vlan} and ({other})", f"({other}) and {vlan}", f"{vlan} or ({other})"])
    print(repr(whole))  # seen of a case that fails
    with bounded():
        insns = compile_filter(Filter(whole)).l2
        for cast in CASTS:
            code = filter_tagged(Programs(insns, [REJECT]), (LAYOUT, TAG), cast, max_tags=harness.max_tags())
            for _ in range(PACKETS):
                packet = packets.packet(rng)
                proto, tci = rng.choice([0x8100, 0x88A8]), rng.choice([10, 0x200A, 20, rng.randrange(1 << 16)])
                if len(packet.data) < ETH_HLEN:
                    continue
                wire = packet.data[:12] + struct.pack("!HH", proto, tci) + packet.data[12:]
                (expected,) = harness.libpcap_verdicts(insns, [packets.Packet(wire, packet.len + 4)])
                assert verdict(code, packet, HEADROOM, HEADROOM + ETH_HLEN, proto=proto, tci=tci) == expected


@cases
@given(st.integers(0, 2**64))
def test_programs(seed: int) -> None:
    """The programs of programs.py use every instruction of classic BPF."""
    rng = Random(seed)
    with bounded():
        compare(programs.program(rng), rng)
