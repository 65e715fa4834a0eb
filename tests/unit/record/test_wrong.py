"""What counts as going wrong, and how it is said."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.record.packets import Packets, Way
from pwru.record.wrong import Wrong, parse
from tests.support.records import follow
from tests.support.ways import END, MS, NAMES, OUT, SCHEMA, UNKNOWN, dropped, events, good, resting, ways


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["dropped"], Wrong(dropped=True)),
        (["stuck", "retransmitted", "stuck"], Wrong(stuck=True, retransmitted=True)),
        (["slower=5ms"], Wrong(slower=5 * MS)),
        (["slower=1.5s"], Wrong(slower=1500 * MS)),
        (["slower=20us", "slower=3ns"], Wrong(slower=3)),
        (["slower=7µs"], Wrong(slower=7000)),
    ],
)
def test_words(words: list[str], wrong: Wrong) -> None:
    assert parse(words) == wrong


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("droped", "'droped' is none of dropped, slower, retransmitted, stuck; did you mean dropped?"),
        ("", "'' is none of dropped, slower, retransmitted, stuck"),
        ("slower", "'slower': slower has a time, as in slower=5ms, and the others have none"),
        ("stuck=2s", "'stuck=2s': slower has a time, as in slower=5ms, and the others have none"),
        *(
            (f"slower={text}", f"{text!r} is not a time such as 500us, 5ms or 1.5s")
            for text in ("", "5", "ms", "-1s", "0s", "5 ms", "1e3ms", "5m", "1234567890s", "٣ms")
        ),
    ],
)
def test_mistakes(word: str, message: str) -> None:
    with pytest.raises(PwruError) as error:
        parse([word])
    assert str(error.value) == message


def way_of(*packets: Way) -> Way:
    (way,) = packets
    return way


def test_what_is_wrong() -> None:
    is_good, bad, rests = (way_of(*ways(make(1))) for make in (good, dropped, resting))
    now = 10_000 * MS
    for wrong, expected in (
        (Wrong(dropped=True), [False, True, False]),
        (Wrong(slower=3 * MS), [False, False, False]),
        (Wrong(slower=3 * MS - 1), [True, False, False]),
        (Wrong(stuck=True), [False, False, True]),
        (Wrong(dropped=True, stuck=True), [False, True, True]),
        (Wrong(retransmitted=True), [False, False, False]),
    ):
        assert [wrong.is_true_of(way, now, UNKNOWN) for way in (is_good, bad, rests)] == expected
    assert not Wrong(stuck=True).is_true_of(rests, rests.last + 999 * MS, UNKNOWN)


@pytest.mark.parametrize(("transmission", "expected"), [(1, False), (2, True)])
def test_sent_again(transmission: int, expected: bool) -> None:
    told = follow(1 << 50, transmission=transmission)
    packets = Packets(SCHEMA, NAMES)
    packets.add(events((1, OUT, told), (2, END, follow(1 << 50, ended=True))))
    assert Wrong(retransmitted=True).is_true_of(way_of(*packets.drain()), 0, UNKNOWN) is expected
