"""Every keyword of pcap-filter(7) has the right meaning here, or is refused with the reason."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.filter.packet import Filter
from pwru.filter.packet.classic import impossible_offset
from pwru.filter.packet.pcap import Programs, compile_expression, compile_filter
from pwru.filter.packet.skb import filter_packet, filter_tagged

LAYOUT, TAG = (184, 186, 188, 200, 208, 112), (150, 152)

# Of packets that have a link-layer header; and of any packet.
L2 = """
ether host 1:2:3:4:5:6|ether src 1:2:3:4:5:6|ether dst 1:2:3:4:5:6|ether proto 0x806|ether broadcast|broadcast|multicast
ether multicast|link host 1:2:3:4:5:6|wlan host 1:2:3:4:5:6|fddi host 1:2:3:4:5:6|tr host 1:2:3:4:5:6|arp|rarp
arp host 10.0.0.1|rarp host 10.0.0.1|decnet host 10.15|decnet src 10.15|lat|moprc|mopdl|atalk|aarp|ipx|netbeui|stp
iso|clnp|esis|isis|l1|l2|iih|lsp|snp|csnp|psnp|iso proto 1|isis proto 1|llc|llc i|llc s|llc u|llc rr|llc xid
vlan|vlan 5|not vlan|vlan 5 and vlan 6|mpls|mpls 5|mpls 3 and mpls 4|pppoed|pppoes|pppoes 7|pppoes and ip
ether[0] & 1 = 0|link[12:2] = 0x800|ppp[0] = 1|slip[0] = 1|fddi [0] = 1|tr[0] = 1|wlan[0] = 1|tcp or ether[6] = 2
"""
ANY = """
ip|ip6|tcp|udp|sctp|icmp|icmp6|igmp|igrp|pim|ah|esp|carp|vrrp|proto 6|ip proto 6|ip6 proto 6|host 10.0.0.1|host fd00::1
src host 10.0.0.1|net 10.0.0.0/8|src net 10.0.0.0 mask 255.0.0.0|net fd00::/8|port 53|src port 53|portrange 1-5
tcp dst port 80|ip multicast|ip6 multicast|less 100|greater 100|len > 100|tcp[tcpflags] & tcp-syn != 0
icmp[icmptype] = icmp-echo|icmp6[icmp6type] = icmp6-echo|ip[8] < 5|ip6[7] < 5|udp[ip[0] & 0xf:2] = 1|geneve|geneve 5
geneve and tcp|tcp[-4:2] = 1
"""
# libpcap says itself that these are of other link types, or need what we do not have.
FOREIGN = """
wlan type mgt|type data|subtype beacon|dir nods|wlan addr1 1:2:3:4:5:6|wlan ra 1:2:3:4:5:6|radio[0] = 1|oam|oamf4|metac
bcc|sc|ilmic|lane|connectmsg|metaconnect|vpi 1|vci 1|fisu|lssu|msu|hfisu|sio 1|opc 1|dpc 1|sls 1|on eth0|ifname eth0
rnr 1|rulenum 1|reason match|action pass|rset x|ruleset x|srnr 1|subrulenum 1|ip broadcast|gateway localhost
"""


def listed(text: str) -> list[str]:
    return [part for line in text.strip().splitlines() for part in line.split("|")]


def translate(programs: Programs, *, tagged: bool = False) -> None:
    filter_packet(programs, LAYOUT, None, max_tags=8)
    if tagged:
        filter_tagged(programs, (LAYOUT, TAG), None, max_tags=8)


@pytest.mark.parametrize("expression", listed(L2))
def test_of_the_link_layer(expression: str) -> None:
    """There is no program of its own for packets without a link-layer header, and no filter on what has none."""
    programs = compile_filter(Filter(expression))
    assert programs.l2
    assert not programs.l3
    assert impossible_offset(programs.l2) is None
    translate(programs, tagged="vlan" in expression)
    with pytest.raises(PwruError, match=r"^`tunnel_l3`: pcap filter "):
        compile_filter(Filter(inner_l3=expression))


@pytest.mark.parametrize("expression", listed(ANY))
def test_of_all_packets(expression: str) -> None:
    programs = compile_filter(Filter(expression))
    assert programs.l2
    assert impossible_offset([*programs.l2, *programs.l3]) is None
    assert programs.l3 or expression.startswith("tcp[-4")  # before a header that may be the first
    translate(programs)


@pytest.mark.parametrize("expression", listed(FOREIGN))
def test_of_other_links(expression: str) -> None:
    with pytest.raises(PwruError, match=r"^pcap filter "):
        compile_filter(Filter(expression))


@pytest.mark.parametrize("joined", ["{}", "not {}", "{} or not {}", "tcp and (port 80 or {})", "{}\nand tcp"])
@pytest.mark.parametrize(
    ("word", "more", "instead"),
    [
        ("inbound", "", "`functions` '__netif_receive_skb.*'"),
        ("outbound", "", "`functions` 'dev_hard_start_xmit'"),
        ("ifindex", " 3", "`ifname`"),
    ],
)
@pytest.mark.parametrize("field", ["typed", "inner_l2", "inner_l3"])
def test_what_the_kernel_knows_of_a_captured_packet(
    word: str, more: str, instead: str, joined: str, field: str
) -> None:
    """It is refused by name, even where it makes no difference."""
    with pytest.raises(PwruError) as caught:
        compile_filter(Filter(**{field: joined.replace("{}", word + more)}))  # type: ignore[arg-type]
    message = str(caught.value)
    assert f"`{word}` is not in the packet; " in message
    assert message.endswith(instead)
    assert message.startswith("pcap filter" if field == "typed" else f"`tunnel_{field[-2:]}`: pcap filter")


@pytest.mark.parametrize(
    ("expression", "offset"),
    [
        ("ether[0xfffff004] = 4", "0xfffff004"),
        ("ether[-4092] = 4", "0xfffff004"),
        ("ether[0xfffff000 + 4] = 4", "0xfffff004"),
        ("link[0xfffff02c:4] = 1", "0xfffff02c"),
        ("ip[-4106] = 4", "0xfffff004"),
        ("tcp[0xfffff000] = 1", "0xfffff00e"),
        ("vlan and ether[0xffe00000] = 1", "0xffe00000"),
        ("ether[-1] = 1", "0xffffffff"),
        ("ether[0x7fffffff] = 1", "0x7fffffff"),
    ],
)
def test_an_offset_that_no_packet_has(expression: str, offset: str) -> None:
    """Negative ones are extensions of the kernel: SKF_AD_OFF, SKF_NET_OFF, SKF_LL_OFF."""
    with pytest.raises(PwruError, match=f": it loads from offset {offset}, which no packet has$"):
        compile_filter(Filter(expression))


def test_before_the_first_header() -> None:
    """The byte before the IP header exists only in a packet with a link-layer header."""
    assert compile_filter(Filter("ip[-1] = 0")).l3 == []
    with pytest.raises(PwruError):
        compile_expression("ip[-1] = 0", 12)
