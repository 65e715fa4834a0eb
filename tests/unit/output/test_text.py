"""Lines of text: the columns of the Go tool, byte for byte."""

from __future__ import annotations

import pytest

from pwru.event import Function, Tuple
from pwru.output import CACHE_LIMIT
from pwru.output.text import Text, cut, tuple_text

from ..records import decoder, packet, process, record


def symbolize(addr: int, reason: int, location: int) -> Function:
    return Function(f"f{addr:x}" + (f"(R{reason})" if reason else ""), "there+0x1" if location else "")


def lines(*data: bytes, text: Text | None = None) -> list[str]:
    text = text or Text(decoder(), symbolize)
    return text.events(decoder().records(memoryview(b"".join(data)))).splitlines()


def test_header_and_row() -> None:
    assert Text(decoder(), symbolize).header() == (
        "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n"
    )
    assert lines(record(addr=0xA)) == [
        "0xffff8f3c8192f000 1   ping:214         4026531840 0              v0:2       0x0800 1500  84    "
        "10.9.0.1:0->10.9.0.2:0(icmp) fa"
    ]


def test_reason_and_location() -> None:
    assert lines(record(addr=1, reason=2, location=3))[0].endswith("(icmp) f1(R2) there+0x1")
    assert lines(record(addr=1, reason=2), record(addr=1, reason=3))[1].endswith(" f1(R3)")


def test_names_of_functions_are_looked_up_anew_once_modules_have_come() -> None:
    names = iter(("before", "after"))
    text = Text(decoder(), lambda addr, reason, location: Function(next(names), ""))
    assert [lines(record(), text=text)[0].split()[-1] for _ in range(2)] == ["before"] * 2
    text.forget_functions()
    assert lines(record(), text=text)[0].endswith(" after")


def test_mark_is_hexadecimal() -> None:
    assert " ab       " in lines(record(packet_run=packet(mark=0xAB)))[0]


def test_tuple_column_grows_and_stays() -> None:
    text = Text(decoder(), symbolize)
    short = record(packet_run=packet(source="", destination="", protocol=0x0806))
    assert lines(short, text=text)[0].endswith("84          f" + "ffffffff81000000")
    (wide,) = lines(record(), text=text)
    (after,) = lines(short, text=text)
    assert len(after) == len(wide)


def test_long_names_are_cut_at_the_front() -> None:
    assert cut("ping:214") == "ping:214"
    assert cut("sixteen-char:123") == "sixteen-char:123"
    assert cut("seventeen-char:12") == "~venteen-char:12"
    (line,) = lines(record(process_run=process(4194304, b"kworker/u16:3-ev")))
    assert line.split()[2] == "~16:3-ev:4194304"


def test_interface_without_name() -> None:
    (line,) = lines(record(packet_run=packet(ifindex=0, ifname=b"")))
    assert line.split()[5] == "0"


@pytest.mark.parametrize(
    ("t", "printed"),
    [
        (None, ""),
        (Tuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 6), "1.2.3.4:1->5.6.7.8:2(tcp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 17), "1.2.3.4:1->5.6.7.8:2(udp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 17), "1.2.3.4->5.6.7.8(udp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 1), "1.2.3.4:0->5.6.7.8:0(icmp)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 47), "1.2.3.4->5.6.7.8(gre)"),
        (Tuple(4, "1.2.3.4", "5.6.7.8", None, None, 200), "1.2.3.4->5.6.7.8(200)"),
        (Tuple(6, "::1", "fe80::2", 443, 5, 6), "[::1]:443->[fe80::2]:5(tcp)"),
        (Tuple(6, "::1", "fe80::2", None, None, 58), "[::1]:0->[fe80::2]:0(icmp6)"),
    ],
)
def test_tuples(t: Tuple | None, printed: str) -> None:
    assert tuple_text(t) == printed


def test_caches_are_bounded() -> None:
    text = Text(decoder(), symbolize)
    for start in range(0, CACHE_LIMIT + 100, 1000):
        batch = [record(process_run=process(pid), packet_run=packet(mark=pid)) for pid in range(start, start + 1000)]
        assert len(lines(*batch, text=text)) == 1000
    assert len(text._processes) <= CACHE_LIMIT
    assert len(text._packets) <= CACHE_LIMIT
