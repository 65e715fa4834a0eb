"""Which events of each packet a capture has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwru.sinks import ends
from tests.support.records import follow

from .captures import AFTER, DROP, END, FRAME, OUTPUT, RCV, SKB, XMIT, capture, event

A, B = 3 << 60, 1 << 50
UNWRITTEN = bytes(30)


def comments(path: Path, *batches: list[bytes], followed: bool = True) -> list[str]:
    """Return what is said of each packet, without who was on the CPU."""
    said = capture(path, *batches, followed=followed).comments
    return [comment.replace(", ping:214, CPU 1", "") for comment in said]


def test_the_first_is_where_it_is_whole(path: Path) -> None:
    way = [
        event(OUTPUT, 1, follow(A), data=UNWRITTEN),
        event(RCV, 2, follow(A)),
        event(XMIT, 3, follow(A)),
        event(END, 4, follow(A, ended=True)),
    ]
    expected = ["first seen in ip_rcv, #1", "ended in skb_release_head_state after dev_hard_start_xmit, #1"]
    assert comments(path, way) == expected
    assert comments(path, *([one] for one in way)) == expected


def test_one_event_is_one_packet(path: Path) -> None:
    assert comments(path, [event(RCV, 1, follow(A))]) == ["first seen in ip_rcv, #1"]
    assert comments(path, [event(DROP, 1, follow(A))]) == ["dropped in kfree_skb_reason(NO_SOCKET), #1"]
    assert comments(path, [event(END, 1, follow(A, ended=True))]) == ["ended in skb_release_head_state, #1"]


def test_a_drop_is_the_last(path: Path) -> None:
    """What frees the packet after that says less."""
    way = [event(RCV, 1, follow(A)), event(DROP, 2, follow(A)), event(END, 3, follow(A, ended=True))]
    drop = "dropped in kfree_skb_reason(NO_SOCKET) after ip_rcv, #1"
    assert comments(path, way) == ["first seen in ip_rcv, #1", drop]
    assert comments(path, way[:2]) == ["first seen in ip_rcv, #1", drop]
    assert comments(path, way[1:]) == ["dropped in kfree_skb_reason(NO_SOCKET), #1"]


def test_what_was_never_whole(path: Path) -> None:
    """It is there if it was dropped, without bytes."""
    gone = event(END, 3, follow(A, ended=True), data=UNWRITTEN)
    assert comments(path, [event(OUTPUT, 1, follow(A), data=UNWRITTEN), gone]) == []
    (packet,) = capture(path, [event(DROP, 1, follow(A), data=UNWRITTEN), gone]).packets
    assert (packet.data, packet.length) == (b"", len(UNWRITTEN))


def test_an_end_without_headers_has_the_bytes_of_the_beginning(path: Path) -> None:
    way = [
        event(RCV, 1, follow(A), data=FRAME, has_mac=True),
        event(END, 2, follow(A, ended=True), data=UNWRITTEN),
    ]
    first, last = capture(path, way).packets
    assert first.data == last.data == FRAME
    assert first.interface == last.interface


def test_each_skb_of_a_packet(path: Path) -> None:
    """How it came about is said where it is first seen, though its headers come later than that is told."""
    way = [
        event(OUTPUT, 1, follow(A)),
        event(OUTPUT, 2, follow(A, 7, relation="CLONE", parent=(A, A)), data=UNWRITTEN),
        event(XMIT, 3, follow(A, 7)),
        event(END, 4, follow(A, ended=True)),
        event(RCV, 5, follow(A, 7)),
        event(RCV, 6, follow(A, 8, relation="MERGED", parent=(A, 7))),
    ]
    assert comments(path, way) == [
        "first seen in ip_output, #1",
        "first seen in dev_hard_start_xmit, #1b (clone of #1)",
        "ended in skb_release_head_state after ip_output, #1",
        "first seen in ip_rcv, #1c (merged into #1b)",
        "last seen in ip_rcv, #1b",
    ]


def test_another_skb_below_a_function_is_nobody(path: Path) -> None:
    assert comments(path, [event(RCV, 1, follow(A, 0, tracked_by="STACKID"))]) == []


@pytest.mark.parametrize("followed", [True, False])
def test_too_many_packets(path: Path, monkeypatch: pytest.MonkeyPatch, followed: bool) -> None:
    """The one that was not seen for longest is written; if it is seen again, so is its last event."""
    monkeypatch.setattr(ends.Ends.__init__, "__defaults__", (2,))

    def at(function: bytes, time: int, number: int, *, ended: bool = False) -> bytes:
        told = follow(A + number, ended=ended) if followed else b""
        return event(function, time, told, skb=SKB + number)

    way = [at(OUTPUT, number, number) for number in (1, 2)]
    way += [at(RCV, 3, 1), at(RCV, 4, 2), at(RCV, 5, 3), at(XMIT, 6, 1), at(END, 7, 1, ended=True)]
    said = [comment.partition(",")[0] for comment in comments(path, way, followed=followed)]
    assert said == [
        "first seen in ip_output",
        "first seen in ip_output",
        "first seen in ip_rcv",
        "last seen in ip_rcv",
        "last seen in ip_rcv",
        "ended in skb_release_head_state after dev_hard_start_xmit",
    ]


def test_an_end_that_was_not_seen(path: Path) -> None:
    """The address comes up with another packet: what is known of the one before is written."""
    way = [event(RCV, 1, skb=SKB), event(XMIT, 2, skb=SKB), event(END, 3, skb=SKB), event(RCV, 4, skb=SKB)]
    way += [event(AFTER, 5, skb=SKB)]
    assert comments(path, way, followed=False) == [
        "first seen in ip_rcv",
        "ended in skb_release_head_state after dev_hard_start_xmit",
        "first seen in ip_rcv",
        "last seen in skb_release_data after ip_rcv",
    ]


def test_last_events_come_in_their_order(path: Path) -> None:
    way = [event(OUTPUT, 1, follow(A)), event(OUTPUT, 2, follow(B)), event(RCV, 3, follow(B)), event(RCV, 4, follow(A))]
    assert [packet.time for packet in capture(path, way).packets] == sorted(
        packet.time for packet in capture(path, way).packets
    )
    assert [said.partition(",")[2] for said in comments(path, way)] == [" #1", " #2", " #2", " #1"]
