"""The account at the end of a trace, as text and as JSON."""

from __future__ import annotations

import json

import pytest

from pwru.record.account import Account

SIZE = 4 << 20


@pytest.mark.parametrize(
    ("account", "text", "complete"),
    [
        (Account(0, 0, 0, 0, SIZE), "0 events of 0 packets, 0 lost", True),
        (Account(1, 0, 0, 0, SIZE, 1, 1), "1 event of 1 packet, 0 lost", True),
        (
            Account(10, 3, 0, 0, SIZE, 7, 2),
            "7 events of 2 packets, 3 lost (the ring buffer of 4096K was full: a narrower filter or a larger"
            " `ring_buffer_size` loses less)",
            False,
        ),
        (
            Account(10, 0, 2, 0, SIZE, 8, 2),
            "8 events of 2 packets, 2 lost (2 of them because the ring buffer was locked by another CPU)",
            False,
        ),
        (
            Account(10, 0, 0, 1, SIZE, 10, 2),
            "10 events of 2 packets, 0 lost, 1 probe hit missed (the kernel runs no program inside another)",
            False,
        ),
        (
            Account(10, 0, 0, 5, SIZE, 10, 2),
            "10 events of 2 packets, 0 lost, 5 probe hits missed (the kernel runs no program inside another)",
            False,
        ),
        (
            Account(10, 0, 0, 0, SIZE, 4, 2, at_limit=True),
            "4 events of 2 packets, 0 lost, 6 not printed after the limit",
            True,
        ),
        (
            Account(10, 0, 0, 0, SIZE, 4, 2),
            "4 events of 2 packets, 0 lost, 6 not printed (whoever reads the output has stopped)",
            False,
        ),
        (
            Account(20, 3, 2, 1, 64 << 10, 5, 2, at_limit=True),
            "5 events of 2 packets, 5 lost (the ring buffer of 64K was full: a narrower filter or a larger"
            " `ring_buffer_size` loses less) (2 of them because the ring buffer was locked by another CPU), 1 probe hit"
            " missed (the kernel runs no program inside another), 10 not printed after the limit",
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
        "lost": {"ring_buffer_full": 3, "ring_buffer_busy": 2, "probe_missed": 1},
        "not_printed": 10,
    }


def test_every_hit_is_a_line_lost_or_not_printed() -> None:
    account = Account(20, 3, 2, 1, SIZE, 5, 2)
    assert account.hits == account.events + account.full + account.busy + account.not_printed
