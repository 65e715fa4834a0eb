"""What is in a pcapng file: the packets, where and when they were, and what is said of each."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.record.parts import Payload
from pwru.sinks import pcapng
from pwru.sinks.pcapng import Pcapng, is_whole
from pwru.sinks.rotate import Backups, File
from pwru.sinks.stream import Stream
from tests.support.pcapng import ETHERNET, RAW, Interface, read
from tests.support.records import cut, follow, hit, meta, schema, task
from tests.support.source import FakeSource

from .captures import (
    ABOUT,
    AFTER,
    BOOT,
    DROP,
    END,
    FOLLOWED,
    FRAME,
    NAMES,
    NETNS,
    OUTPUT,
    PING,
    RCV,
    SKB,
    XMIT,
    begun,
    capture,
    event,
    ipv4,
    ipv6,
    source,
    udp,
)

A, B = 3 << 60, 1 << 50
V0 = f"network namespace {NETNS} (blue\\x0a)"


def test_a_packet(path: Path) -> None:
    """Its first event and its last, at an interface each; bytes, lengths, times and all that is said of it."""
    got = capture(
        path,
        [
            event(OUTPUT, 5, follow(A), data=ipv4(bytes(100))),
            event(XMIT, 6, follow(A), data=FRAME, has_mac=True),
            event(RCV, 7, follow(A), data=FRAME, has_mac=True),
            event(END, 8, follow(A, ended=True), data=FRAME, has_mac=True, task=task(7, b"a\x1b", 0)),
            event(AFTER, 9, follow(A), data=FRAME, has_mac=True),
        ],
    )
    assert got.interfaces == [Interface(RAW, "v0", f"{V0}, without link-layer header"), Interface(ETHERNET, "v0", V0)]
    first, last = got.packets
    assert (first.interface, last.interface) == tuple(got.interfaces)
    assert (first.time, last.time) == (BOOT + 5, BOOT + 8)
    assert (first.data, first.length) == (ipv4(bytes(100))[:64], 120)
    assert (last.data, last.length) == (FRAME, len(FRAME))
    assert first.comment == "first seen in ip_output, ping:214, CPU 1, #1"
    assert last.comment == "ended in skb_release_head_state after ip_rcv, a\\x1b:7, CPU 0, #1"
    assert [(packet.direction, packet.id) for packet in got.packets] == [(2, 1), (0, 1)]


def test_every_event(path: Path) -> None:
    """Also those at which there is no packet yet, without bytes that are none."""
    got = capture(
        path,
        [
            event(OUTPUT, 5, follow(A), data=bytes(30)),
            event(XMIT, 6, follow(A), data=FRAME, has_mac=True),
            event(RCV, 7, follow(A), data=FRAME, has_mac=True),
            event(AFTER, 8, follow(A), data=FRAME, has_mac=True),
        ],
        every=True,
    )
    assert got.comments == [
        f"{name}, ping:214, CPU 1, #1" for name in ("ip_output", "dev_hard_start_xmit", "ip_rcv", "skb_release_data")
    ]
    assert [packet.direction for packet in got.packets] == [2, 2, 1, 0]
    assert (got.packets[0].data, got.packets[0].length) == (b"", 30)
    (empty,) = capture(path, [event(OUTPUT, 5, follow(A), data=b"")], every=True).packets
    assert (empty.data, empty.length) == (b"", 1)


def test_interfaces(path: Path) -> None:
    """One for each namespace, device and kind of header, named by what it is called."""
    places = [
        meta(),
        meta(mark=7),
        meta(ifindex=3, ifname=b"e\n"),
        meta(netns=5),
        meta(netns=0, ifindex=0, ifname=b""),
    ]
    got = capture(path, [event(OUTPUT, 1, follow(A + number), packet=each) for number, each in enumerate(places)])
    raw = ", without link-layer header"
    assert got.interfaces == [
        Interface(RAW, "v0", V0 + raw),
        Interface(RAW, "e\\x0a", V0 + raw),
        Interface(RAW, "v0", f"network namespace 5{raw}"),
        Interface(RAW, "(no device)", f"network namespace unknown{raw}"),
    ]
    assert [got.interfaces.index(packet.interface) for packet in got.packets] == [0, 0, 1, 2, 3]


def test_too_many_interfaces_begin_a_new_section(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcapng, "INTERFACE_LIMIT", 2)
    with closing(begun(path)) as sink:
        header = path.read_bytes()
        sink.write(cut(FOLLOWED, *(event(OUTPUT, 1, follow(A + n), packet=meta(netns=n)) for n in range(3))))
    one, two = (header + part for part in path.read_bytes().split(header)[1:])
    assert [len(read(part).interfaces) for part in (one, two)] == [2, 1]
    assert [len(read(part).packets) for part in (one, two)] == [2, 1]


def test_lengths_that_cannot_be(path: Path) -> None:
    """A length that is no packet's is that of the bytes; a record of a BPF program may have less than it says."""
    got = capture(path, [event(OUTPUT, 1, follow(A), data=FRAME, has_mac=True)], every=True)
    assert got.packets[0].length == len(FRAME)
    for length, expected in ((0xFFFFFFF0, len(FRAME)), (10, len(FRAME)), (1 << 18, 1 << 18)):
        raw = event(OUTPUT, 1, follow(A), data=FRAME, has_mac=True)
        at = len(raw) - 64 - 16
        raw = raw[:at] + length.to_bytes(4, "little") + raw[at + 4 :]
        assert capture(path, [raw], every=True).packets[0].length == expected


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (PING, True),
        (ipv4(bytes(8), length=0), False),
        (ipv4(bytes(8), length=27), False),
        (ipv6(bytes(8)), True),
        (ipv6(bytes(8), length=0), False),
        (ipv4(udp(12) + bytes(4), 17), True),
        (ipv4(udp(0) + bytes(4), 17), False),
        (ipv4(udp(2000) + bytes(4), 17, fragment=0x2000), True),
        (ipv4(bytes(12), 17, fragment=0x10), True),
        (ipv6(udp(8), 17), True),
        (ipv6(udp(9), 17), False),
        (b"GET / HTTP/1.1\r\n" + bytes(40), False),
        (b"", False),
        (b"\x45", True),  # as far as it can be seen
    ],
)
def test_whole_packets(data: bytes, whole: bool) -> None:
    assert is_whole(Payload(len(data), False, data)) == whole
    assert is_whole(Payload(len(data), True, data)) == bool(data)


def test_a_length_that_ip_has_no_room_for() -> None:
    assert is_whole(Payload(70_000, False, ipv4(bytes(8), length=0)))
    assert is_whole(Payload(70_000, False, ipv6(bytes(8), length=0)))


def test_what_the_file_says_of_itself(path: Path) -> None:
    about = capture(path).about
    assert about == {1: "pwru icmp 'a b\\x0a'", 2: "x86_64", 3: "Linux 6.12.0", 4: "pwru 0.0"}


def test_a_recording_without_packets(path: Path) -> None:
    """One that lacks what a capture is made from."""
    sink = Pcapng(File(str(path), 1 << 30, Backups(str(path)), whole=True))
    sink.open()
    with closing(sink), pytest.raises(PwruError, match=r"^this was not recorded: `payload` must be given when"):
        sink.begin(FakeSource(schema("time", parts=("meta",)), NAMES, ABOUT))


def test_a_file_is_replaced(path: Path) -> None:
    path.write_bytes(b"something else" * 1000)
    path.chmod(0o600)
    assert len(capture(path, [event(OUTPUT, 1, follow(A))]).packets) == 1


def test_a_file_that_is_moved_away(path: Path) -> None:
    """The next one can be read by itself."""
    with closing(begun(path)) as sink:
        sink.write(cut(FOLLOWED, event(OUTPUT, 1, follow(A))))
        path.rename(path.parent / "moved")
        sink.reopen()
        sink.write(cut(FOLLOWED, event(OUTPUT, 2, follow(B)), event(RCV, 3, follow(B))))
        path.rename(path.parent / "second")
        sink.reopen()
        sink.flush()
    for file, time in ((path.parent / "moved", 1), (path.parent / "second", 2), (path, 3)):
        (packet,) = read(file.read_bytes()).packets
        assert packet.time == BOOT + time


def test_a_pipe_has_it_at_once() -> None:
    reading, writing = os.pipe()
    with closing(Pcapng(Stream(writing, whole=True))) as sink:
        sink.open()
        sink.begin(source())
        sink.write(cut(FOLLOWED, event(OUTPUT, 1, follow(A)), event(DROP, 2, follow(A))))
        assert len(read(os.read(reading, 1 << 16)).packets) == 1
        sink.write(cut(FOLLOWED, event(END, 3, follow(A, ended=True))))
        assert b"dropped in kfree_skb_reason(NO_SOCKET) after ip_output" in os.read(reading, 1 << 16)
    os.close(reading)
    os.close(writing)


def test_a_terminal_is_refused() -> None:
    main, terminal = os.openpty()
    with (
        closing(Pcapng(Stream(terminal, whole=True))) as sink,
        pytest.raises(PwruError, match=r"^`output_pcap`: packets are not for"),
    ):
        sink.open()
    os.close(main)
    os.close(terminal)


def test_a_full_disk(path: Path) -> None:
    """/dev/full takes nothing: the account has no event of that batch, and later ones are given up, too."""
    sink = begun(path)
    sink.write(cut(FOLLOWED, event(OUTPUT, 1, follow(A)), event(RCV, 2, follow(A))))
    full = os.open("/dev/full", os.O_WRONLY)
    assert sink.reader is not None
    os.dup2(full, sink.reader)
    records = cut(FOLLOWED, event(RCV, 3, follow(A)), event(OUTPUT, 4, follow(B)), event(RCV, 5, follow(B)))
    assert sink.write(records) == 2
    assert sink.events == 3
    assert str(sink.failure) == f"cannot write to {path}: No space left on device"
    sink.flush()
    sink.close()
    os.close(full)
    assert len(read(path.read_bytes()).packets) == 1


def test_by_skb(path: Path) -> None:
    """Without following, an address is another packet once its skb was released."""
    way = [event(OUTPUT, 1), event(DROP, 2), event(END, 3), event(AFTER, 4), event(OUTPUT, 5), event(RCV, 6)]
    got = capture(path, way, followed=False)
    assert got.comments == [
        "first seen in ip_output, ping:214, CPU 1",
        "dropped in kfree_skb_reason(NO_SOCKET) after ip_output, ping:214, CPU 1",
        "first seen in ip_output, ping:214, CPU 1",
        "last seen in ip_rcv, ping:214, CPU 1",
    ]
    assert {packet.id for packet in got.packets} == {0}


def test_who_dropped_it(path: Path) -> None:
    """It is said if the records have it."""
    located = schema("location", "time", parts=("meta",), payload=64)
    with closing(Pcapng(File(str(path), 1 << 30, Backups(str(path)), whole=True))) as sink:
        sink.open()
        sink.begin(FakeSource(located, NAMES, ABOUT))
        sink.write(cut(located, *(event(hit(addr, reason, 7), 1) for addr, reason in ((0xB, 0), (0xD, 2), (0xE, 0)))))
    assert read(path.read_bytes()).comments == [
        "first seen in ip_rcv, ping:214, CPU 1",
        "dropped in kfree_skb_reason(NO_SOCKET) from udp_rcv, ping:214, CPU 1",
    ]


def test_counts(path: Path) -> None:
    with closing(begun(path)) as sink:
        sink.write(cut(FOLLOWED, event(OUTPUT, 1, follow(A)), event(OUTPUT, 1, follow(), skb=SKB + 1)))
        assert (sink.events, sink.packets, sink.not_followed) == (2, 2, 1)
