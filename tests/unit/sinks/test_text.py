"""Lines of text: the columns of the Go tool, byte for byte."""

from __future__ import annotations

import pytest

from pwru.record.names import Function, Hit
from pwru.record.parts import FlowTuple
from pwru.record.schema import Schema
from pwru.sinks.text import Text, tuple_text
from pwru.sinks.text import cut as cut_name
from tests.support.records import NO_IP, addresses, cut, hit, meta, record, schema, task
from tests.support.source import FakeNames


def function(hit: Hit) -> Function:
    addr, reason, location = hit
    return Function(f"f{addr:x}" + (f"(R{reason})" if reason else ""), "there+0x1" if location else "")


def make(schema: Schema = schema()) -> Text:  # noqa: B008  (a constant)
    return Text(schema, FakeNames(function, ends={0xE}))


def lines(*records: bytes, text: Text | None = None) -> list[str]:
    text = text or make()
    return text.events(cut(text.schema, *records)).splitlines()


def test_header_and_row() -> None:
    assert make().header() == (
        "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n"
    )
    assert lines(record(hit=hit(0xA))) == [
        "0xffff8f3c8192f000 1   ping:214         4026531840 0              v0:2       0x0800 1500  84    "
        "10.9.0.1:0->10.9.0.2:0(icmp) fa"
    ]


def test_reason_and_location() -> None:
    (line,) = lines(record(hit=hit(1, 2, 3)), text=make(schema("location")))
    assert line.endswith("(icmp) f1(R2) there+0x1")
    assert lines(record(hit=hit(1, 2)), record(hit=hit(1, 3)))[1].endswith(" f1(R3)")


def test_verdict() -> None:
    text = Text(schema(), FakeNames(lambda hit: Function("a_program(tc)", "a_caller", True, "TC_ACT_SHOT")))
    (line,) = lines(record(hit=hit(1)), text=text)
    assert line.endswith("(icmp) a_program(tc) TC_ACT_SHOT a_caller")


@pytest.mark.parametrize(
    ("parts", "header", "row"),
    [
        (("tuple",), "SKB CPU PROCESS TUPLE FUNC", "10.9.0.1:0->10.9.0.2:0(icmp) fa"),
        (("meta",), "SKB CPU PROCESS NETNS MARK/x IFACE PROTO MTU LEN FUNC", "84 fa"),
        ((), "SKB CPU PROCESS FUNC", "ping:214 fa"),
    ],
)
def test_columns_that_are_not_wanted(parts: tuple[str, ...], header: str, row: str) -> None:
    text = make(schema(parts=parts))
    assert text.header().split() == header.split()
    packet = meta() * ("meta" in parts) + addresses() * ("tuple" in parts)
    (line,) = lines(record(hit=hit(0xA), packet=packet), text=text)
    assert line.split()[-len(row.split()) :] == row.split()
    assert len(line.split()) == len(header.split())
    assert line.startswith("0xffff8f3c8192f000 1   ping:214 ")


def test_names_of_functions_are_looked_up_anew_once_modules_have_come() -> None:
    names = iter(("before", "after"))
    fake = FakeNames(lambda _: Function(next(names), ""))
    text = Text(schema(), fake)
    assert [lines(record(), text=text)[0].split()[-1] for _ in range(2)] == ["before"] * 2
    fake.generation += 1
    assert lines(record(), text=text)[0].endswith(" after")


def test_mark_is_hexadecimal() -> None:
    assert " ab       " in lines(record(packet=meta(mark=0xAB) + addresses()))[0]


def test_tuple_column_grows_and_stays() -> None:
    text = make()
    short = record(packet=meta(protocol=0x0806) + NO_IP)
    assert lines(short, text=text)[0].endswith("84          f" + "ffffffff81000000")
    (wide,) = lines(record(), text=text)
    (after,) = lines(short, text=text)
    assert len(after) == len(wide)


def test_long_names_are_cut_at_the_front() -> None:
    assert cut_name("ping:214") == "ping:214"
    assert cut_name("sixteen-char:123") == "sixteen-char:123"
    assert cut_name("seventeen-char:12") == "~venteen-char:12"
    (line,) = lines(record(task=task(4194304, b"kworker/u16:3-ev")))
    assert line.split()[2] == "~16:3-ev:4194304"


def test_interface_without_name() -> None:
    (line,) = lines(record(packet=meta(ifindex=0, ifname=b"") + addresses()))
    assert line.split()[5] == "0"


@pytest.mark.parametrize(
    ("t", "printed"),
    [
        (None, ""),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 6), "1.2.3.4:1->5.6.7.8:2(tcp)"),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", 1, 2, 17), "1.2.3.4:1->5.6.7.8:2(udp)"),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", None, None, 17), "1.2.3.4->5.6.7.8(udp)"),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", None, None, 1), "1.2.3.4:0->5.6.7.8:0(icmp)"),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", None, None, 47), "1.2.3.4->5.6.7.8(gre)"),
        (FlowTuple(4, "1.2.3.4", "5.6.7.8", None, None, 200), "1.2.3.4->5.6.7.8(200)"),
        (FlowTuple(6, "::1", "fe80::2", 443, 5, 6), "[::1]:443->[fe80::2]:5(tcp)"),
        (FlowTuple(6, "::1", "fe80::2", None, None, 58), "[::1]:0->[fe80::2]:0(icmp6)"),
    ],
)
def test_tuples(t: FlowTuple | None, printed: str) -> None:
    assert tuple_text(t) == printed
