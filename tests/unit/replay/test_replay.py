"""What is recorded comes back, whatever is asked of it; what is damaged gives all that precedes the damage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.filter.packet import Filter
from pwru.record.parts import Payload
from pwru.record.schema import Record
from pwru.record.shown import Shown
from pwru.replay.moments import Moment, Span, span
from pwru.replay.packets import packet_test
from pwru.replay.source import Replay
from pwru.replay.wanted import Wanted
from tests.support import recordings, records

EVENTS = recordings.events()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "x.pwru"
    recordings.write(path, [EVENTS[:7], EVENTS[7:]])
    return path


def read(path: Path, wanted: Wanted = Wanted()) -> tuple[list[Record], Replay]:  # noqa: B008  (a constant)
    replay = Replay([str(path)])
    test = packet_test(wanted.filter) if wanted.filter else None
    with_all = [record for batch in replay.read(wanted, test) for record in batch]
    replay.close()
    return with_all, replay


def test_all_of_it(recording: Path) -> None:
    records, replay = read(recording)
    assert records == EVENTS
    assert replay.damage is None
    assert replay.account
    assert (replay.account.hits, replay.account.packets) == (len(EVENTS), 4)
    first, last = (replay.schema.event(record, replay.names) for record in (records[0], records[-1]))
    assert (first.function.name, first.function.caller, first.function.drops) == ("f1000", "c5000", False)
    assert (last.function.name, last.function.reason) == (
        "f1004(SKB_DROP_REASON_NO_SOCKET)",
        "SKB_DROP_REASON_NO_SOCKET",
    )
    assert replay.names.netns() == {4026531841: "blue"}
    assert replay.names.ends == {0x1004}


def packets(indices: str) -> list[Record]:
    """Return the events of these packets, which count from 1."""
    return [record for number in indices for record in EVENTS[5 * int(number) - 5 : 5 * int(number)]]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(filter=Filter("tcp dst port 80")), packets("24")),
        (Wanted(filter=Filter("udp")), []),
        (Wanted(filter=Filter("", primitives=("dst port 443",))), packets("13")),
        (Wanted(netns="blue"), packets("13")),
        (Wanted(netns="4026531840"), packets("24")),
        (Wanted(netns="inode:4026531841"), packets("13")),
        (Wanted(mark=3, mark_mask=0xFF), packets("3")),
        (Wanted(pid=101), packets("14")),
        (Wanted(comm="client2"), packets("2")),
        (Wanted(comm="client2:102"), packets("2")),
        (Wanted(ifname="v1"), [record for n in range(4) for record in EVENTS[5 * n + 2 : 5 * n + 4]]),
        (Wanted(ifname="v1", follow=True), [record for n in range(4) for record in EVENTS[5 * n + 2 : 5 * n + 5]]),
        (Wanted(functions="f100[0-2]", filter=Filter("port 80")), [*EVENTS[5:8], *EVENTS[15:18]]),
        (Wanted(drop_reasons=("no_socket",)), EVENTS[4::5]),
        (Wanted(drop_reasons=("any",)), EVENTS[4::5]),
        (Wanted(drop_reasons=("NETFILTER_DROP",)), []),
        (Wanted(packets=frozenset({2, 3})), packets("23")),
        (Wanted(span=Span(Moment("+0.001"), Moment("+0.002001"))), [*EVENTS[5:10], *EVENTS[10:12]]),
    ],
)
def test_filters(recording: Path, wanted: Wanted, expected: list[Record]) -> None:
    records, _ = read(recording, wanted)
    assert records == expected


@pytest.mark.parametrize(
    ("expression", "vlans"),
    [
        ("vlan", [7, 8]),
        ("vlan 7 and tcp port 80", [7]),
        ("port 80 or (vlan 8 and port 80)", [0, 8]),
        ("port 80", [0, 7, 8]),
        ("len <= 54", [0, 7, 8]),
        ("len <= 54 or vlan 8", [0, 8]),
    ],
)
def test_a_vlan_tag_beside_the_packet(expression: str, vlans: list[int]) -> None:
    """Filters that say `vlan` see it where the wire has it; others do not see it, as in a live trace."""
    test = packet_test(Filter(expression))
    payloads = {vlan: details(recordings.payload(80, vlan=vlan)) for vlan in (0, 7, 8)}
    assert [vlan for vlan, payload in payloads.items() if test(payload)] == vlans
    assert {len(payload.data) for payload in payloads.values()} == {54}


def details(raw: bytes) -> Payload:
    payload: Payload = recordings.SCHEMA.details(raw)["payload"]
    return payload


def test_packets_keep_their_numbers(recording: Path) -> None:
    """Whatever is filtered out."""
    records, replay = read(recording, Wanted(filter=Filter("port 443")))
    follows = [replay.schema.follow(Record._make(record).follow) for record in records]
    numbers = [replay.numbers.see(follow).packet.number for follow in follows]
    assert numbers == [1] * 5 + [3] * 5


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (Shown({"meta": 0, "stack": 0}), "this was not recorded: `stack`"),
        (Shown({"skb": 0}), "`sk_buff`"),
        (Shown({}, skb_metadata=("skb->hash",)), "the values of skb->hash were not recorded: see `skb_metadata`"),
        (Shown({"payload": 65}), "has 64 bytes of each packet"),
    ],
)
def test_what_was_not_recorded(shown: Shown, message: str) -> None:
    with pytest.raises(PwruError, match=message):
        shown.of(recordings.SCHEMA)


@pytest.mark.parametrize(
    "wanted",
    [Wanted(skb_expr="skb->hash"), Wanted(netns="1"), Wanted(packets=frozenset({1})), Wanted(span=span("..+1"))],
)
def test_what_was_not_recorded_is_said_at_once(tmp_path: Path, wanted: Wanted) -> None:
    """Before anything is written."""
    schema = records.schema(parts=("tuple",))
    raw = records.record(packet=records.addresses())
    recordings.write(tmp_path / "x.pwru", [records.cut(schema, raw)], schema=schema)
    replay = Replay([str(tmp_path / "x.pwru")])
    with pytest.raises(PwruError, match="not recorded"):
        replay.read(wanted, None)
    replay.close()


def test_less_is_shown() -> None:
    schema = Shown({"meta": 0, "payload": 20}).of(recordings.SCHEMA)
    record = Record._make(EVENTS[0])
    assert schema.parts == {"meta", "payload"}
    assert schema.packet(record.packet).keys() == {"meta"}
    assert schema.hit(record.hit).location == 0
    assert len(schema.details(record.details)["payload"].data) == 20
    assert schema.details(record.details)["payload"].length == 54


@pytest.mark.parametrize("end", range(-1, -3000, -97))
def test_a_recording_that_was_cut(tmp_path: Path, end: int) -> None:
    data = recordings.write(None, [EVENTS[:7], EVENTS[7:]])
    path = tmp_path / "cut.pwru"
    path.write_bytes(data[:end])
    header = data.index(b"NAME")
    if len(data) + end < header:
        with pytest.raises(PwruError, match=re.escape(str(path))):
            read(path)
        return
    records, replay = read(path)
    assert records in ([], EVENTS[:7], EVENTS)
    assert replay.damage


def test_a_trace_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "killed.pwru"
    recordings.write(path, [EVENTS], account=False)
    records, replay = read(path)
    assert records == EVENTS
    assert "ends without an account" in str(replay.damage)


@pytest.mark.parametrize(
    "text", ["", "12:00", "..", "25:00..", "1..2", "+1..+x", "2026-13-01T00:00..", "9" * 30 + ".."]
)
def test_no_span(text: str) -> None:
    with pytest.raises(PwruError, match="is no "):
        span(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("+1.5", 1_500_000_000), ("1970-01-01T00:00:02.25+00:00", 2_250_000_000)]
)
def test_moments(text: str, nanoseconds: int) -> None:
    assert Moment(text).resolve(0, 0) == nanoseconds


def test_files_of_a_run_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "of-both")
    recordings.write(tmp_path / "x.pwru", [EVENTS[10:]])
    recordings.write(tmp_path / "x-2026.pwru", [EVENTS[:10]])
    records, replay = read(tmp_path / "x*.pwru")
    assert records == EVENTS
    assert replay.damage is None
    recordings.write(tmp_path / "x-2027.pwru", [EVENTS[:10]])
    monkeypatch.setattr("secrets.token_hex", lambda _: "another")
    recordings.write(tmp_path / "x-2026.pwru", [EVENTS[:10]])
    _, replay = read(tmp_path / "x*.pwru")
    assert "is of another run" in str(replay.damage)
