"""The account at the end of a trace, as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pwru.record.account import Account, Waiting

SIZE = 4 << 20


@pytest.mark.parametrize(
    ("account", "text", "complete"),
    [
        (Account(0, 0, 0, 0, SIZE), "0 events of 0 packets, 0 lost", True),
        (Account(1, 0, 0, 0, SIZE, 1, 1), "1 event of 1 packet, 0 lost", True),
        (Account(5, 0, 0, 0, SIZE, 5, 2), "5 events of at least 2 packets, 0 lost", True),
        (Account(5, 0, 0, 0, SIZE, 5, 2, sees_ends=True), "5 events of 2 packets, 0 lost", True),
        (
            Account(9, 0, 0, 0, SIZE, 9, 3, sees_ends=True, only=True, kept=1, kept_events=4),
            "9 events of 3 packets, 0 lost; 1 packet went wrong, with 4 events",
            True,
        ),
        (
            Account(9, 0, 0, 0, SIZE, 9, 3, sees_ends=True, only=True, given_up=2),
            "9 events of 3 packets, 0 lost; 0 packets went wrong, with 0 events,"
            " 2 packets could not be held until it was known",
            False,
        ),
        (
            Account(10, 3, 0, 0, SIZE, 7, 2, sees_ends=True),
            "7 events of at least 2 packets, 3 lost (the ring buffer of 4096K was full: a narrower filter or a larger"
            " `ring_buffer_size` loses less)",
            False,
        ),
        (
            Account(10, 0, 2, 0, SIZE, 8, 2),
            "8 events of at least 2 packets, 2 lost (2 of them because the ring buffer was locked by another CPU)",
            False,
        ),
        (
            Account(10, 0, 0, 1, SIZE, 10, 2),
            "10 events of at least 2 packets, 0 lost, 1 probe hit missed"
            " (that CPU was running BPF code or another probe)",
            False,
        ),
        (
            Account(10, 0, 0, 5, SIZE, 10, 2),
            "10 events of at least 2 packets, 0 lost, 5 probe hits missed"
            " (that CPU was running BPF code or another probe)",
            False,
        ),
        (
            Account(10, 0, 0, 0, SIZE, 4, 2, at_limit=True, sees_ends=True),
            "4 events of 2 packets, 0 lost, 6 not printed after the limit",
            True,
        ),
        (
            Account(10, 0, 0, 0, SIZE, 4, 2, sees_ends=True),
            "4 events of 2 packets, 0 lost, 6 not printed (whoever reads the output did not take them in time)",
            False,
        ),
        (
            Account(10, 0, 0, 0, SIZE, 4, 2, sees_ends=True, reader_gone=True),
            "4 events of 2 packets, 0 lost, 6 not printed (whoever read the output has gone)",
            False,
        ),
        (Account(4, 0, 0, 0, SIZE, 4, 2, sees_ends=True, reader_gone=True), "4 events of 2 packets, 0 lost", False),
        (
            Account(20, 3, 2, 1, 64 << 10, 5, 2, at_limit=True),
            "5 events of at least 2 packets, 5 lost (the ring buffer of 64K was full: a narrower filter or a larger"
            " `ring_buffer_size` loses less) (2 of them because the ring buffer was locked by another CPU), 1 probe hit"
            " missed (that CPU was running BPF code or another probe), 10 not printed after the limit",
            False,
        ),
    ],
)
def test_text(account: Account, text: str, complete: bool) -> None:
    assert account.text() == text
    assert account.complete is complete


def test_json() -> None:
    assert json.loads(Account(20, 3, 2, 1, SIZE, 5, 2).json()) == {
        "events": 5,
        "packets": 2,
        "packets_exact": False,
        "lost": {"ring_buffer_full": 3, "ring_buffer_busy": 2, "probe_missed": 1},
        "not_printed": 10,
    }


FOLLOWING = Account(9, 0, 0, 0, SIZE, 9, 5000, follow_limit=1024)
WAITING = tuple(Waiting(number, 0, 20.0 - number, "__dev_queue_xmit", f"#{number}") for number in range(1, 13))


@pytest.mark.parametrize(
    ("changes", "text", "complete"),
    [
        ({}, "9 events of 5000 packets, 0 lost", True),  # by their numbers: no end has to be seen
        (
            {"not_followed": 3976, "sees_ends": True},
            "9 events of 5000 packets, 0 lost, 3976 packets were not followed: room for 1024 (`follow_limit` makes"
            " more)",
            False,
        ),
        (
            {"not_followed": 1},
            "9 events of at least 5000 packets, 0 lost, 1 packet was not followed: room for 1024 (`follow_limit` makes"
            " more)",
            False,
        ),
        (
            {"not_followed": 2, "no_room": 1},
            "9 events of at least 5000 packets, 0 lost, 2 packets and 1 skb of other packets were not followed: room"
            " for 1024 (`follow_limit` makes more)",
            False,
        ),
        (
            {"no_room": 1},
            "9 events of 5000 packets, 0 lost, 1 skb of other packets was not followed: room for 1024 (`follow_limit`"
            " makes more)",
            False,
        ),
        ({"ends_unseen": 1}, "9 events of 5000 packets, 0 lost, the ends of 1 skb were not seen", True),
        ({"ends_unseen": 2}, "9 events of 5000 packets, 0 lost, the ends of 2 skbs were not seen", True),
        (
            {"missed": 1, "waiting": WAITING},  # the end may be what was missed
            "9 events of at least 5000 packets, 0 lost, 1 probe hit missed (that CPU was running BPF code or another"
            " probe)",
            False,
        ),
        (
            {"waiting": WAITING[:1]},
            "9 events of 5000 packets, 0 lost\n#1 was last seen 19 s ago in __dev_queue_xmit",
            True,
        ),
    ],
)
def test_packets_that_are_followed(changes: dict[str, Any], text: str, complete: bool) -> None:
    account = FOLLOWING._replace(**changes)
    assert account.text() == text
    assert account.complete is complete


def test_ten_that_wait_are_listed() -> None:
    lines = FOLLOWING._replace(waiting=WAITING).text().splitlines()
    assert lines[10:] == ["#10 was last seen 10 s ago in __dev_queue_xmit", "and 2 more"]


def test_json_of_packets_that_are_followed() -> None:
    account = json.loads(FOLLOWING._replace(not_followed=1, ends_unseen=2, waiting=WAITING).json())
    assert (account["packets_exact"], account["not_followed"], account["ends_unseen"]) == (False, 1, 2)
    assert len(account["waiting"]) == 12
    assert account["waiting"][0] == {"packet": 1, "instance": 0, "seconds": 19.0, "place": "__dev_queue_xmit"}
    account = json.loads(FOLLOWING.json())
    assert (account["packets_exact"], account["not_followed"], account["waiting"]) == (True, 0, [])
    assert json.loads(FOLLOWING._replace(full=1, waiting=WAITING).json())["waiting"] == []


@pytest.mark.parametrize(
    ("lost", "exact"), [((0, 0, 0), True), ((1, 0, 0), False), ((0, 1, 0), False), ((0, 0, 1), False)]
)
def test_the_end_of_a_packet_may_be_what_was_lost(lost: tuple[int, int, int], exact: bool) -> None:
    assert json.loads(Account(20, *lost, SIZE, 5, 2, sees_ends=True).json())["packets_exact"] is exact


def test_every_hit_is_a_line_lost_or_not_printed() -> None:
    account = Account(20, 3, 2, 1, SIZE, 5, 2)
    assert account.hits == account.events + account.full + account.busy + account.not_printed
