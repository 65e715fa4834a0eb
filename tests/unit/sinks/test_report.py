"""The page of a trace: what is in its data, what is left out, that it is text only, and the file that it goes to."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from pwru.errors import PwruError
from pwru.record.account import Account
from pwru.record.names import Function, Hit
from pwru.record.schema import Record
from pwru.sinks.report import Report
from pwru.sinks.report.page import PROGRAM
from tests.support.page import Page
from tests.support.records import addresses, cut, follow, hit, meta, record, schema, u64
from tests.support.source import FakeNames, FakeSource
from tests.support.traffic import payload, write_made_up

SCHEMA = schema("follow", "time", "location", payload=64)
MS, SECOND = 10**6, 10**9
HERE, NEXT, DROP, END = (hit(number, location=1) for number in (0xA, 0xB, 0xD, 0xE))
NOBODY = Account(0, 0, 0, 0, 1 << 20)


def function(at: Hit) -> Function:
    if at.addr == 0xD:
        return Function("kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)", "udp_rcv", drops=True)
    return Function(f"f{at.addr:x}", "caller")


NAMES = FakeNames(function, ends={0xE}, netns=lambda: {7: "blue"})


def event(told: bytes, at: bytes = HERE, time: int = 0, data: bytes = b"\x45", **state: Any) -> Record:
    packet = meta(**{"netns": 7, "ifname": b"eth0", **state}) + addresses(ports=(1, 2), l4=6)
    [made] = cut(SCHEMA, record(hit=at, packet=packet, rest=told + u64(time) + payload(data, 40, has_mac=False)))
    return made


def packet(
    number: int, *, drops: bool = False, begin: int | None = None, took: int = MS, steps: int = 2
) -> list[Record]:
    """Return the events of a packet that ends."""
    number <<= 20
    begin = number if begin is None else begin
    middle = [event(follow(number), NEXT, begin + took // 2)] * (steps - 2)
    last = event(follow(number, ended=True), DROP if drops else END, begin + took)
    return [event(follow(number), HERE, begin), *middle, last]


def page(path: Path, records: Sequence[Record], *, living: Collection[int] | None = None, **options: Any) -> Page:
    report = Report(str(path), **options)
    report.open()
    report.begin(FakeSource(SCHEMA, NAMES, living=living))
    for at in range(0, len(records), 3):
        report.write(list(records[at : at + 3]))
    report.flush()
    report.finish(NOBODY)
    report.close()
    assert report.failure is None
    assert report.events == len(records)
    return Page(path.read_text())


def test_packets(tmp_path: Path) -> None:
    made = page(tmp_path / "r", [*packet(1), *packet(2, drops=True)], command=["--report", "r", "a b"])
    first, second = made.packets
    assert (first.number, first.outcome, first.functions) == (1, "ended", ["fa", "fe"])
    assert (second.outcome, second.drops) == ("dropped", [(1, "NO_SOCKET", "udp_rcv")])
    assert first.times == [0, MS]
    assert first.places == ["blue"]
    assert first.addresses == "10.9.0.1:1 → 10.9.0.2:2 tcp"
    [payload_] = first.payloads
    assert [*payload_] == [base64.b64encode(b"\x45").decode(), 40, 0]
    assert made.data["packets"]["begin"] == [0, 1 << 20]
    assert made.data["run"]["command"] == "pwru --report r 'a b'"
    assert made.data["run"]["notice"] == ""
    assert made.data["tasks"] == [[made.data["strings"].index("ping"), 214]]


def test_what_repeats_is_there_once(tmp_path: Path) -> None:
    data = page(tmp_path / "r", [record for number in range(1, 50) for record in packet(number)]).data
    assert [len(data[name]) for name in ("functions", "states", "tasks", "payloads")] == [2, 1, 1, 1]
    assert len(data["strings"]) < 70


def test_skbs_of_a_packet(tmp_path: Path) -> None:
    """Their names, and how they came about."""
    records = [
        event(follow(1)),
        event(follow(1, 2, relation="CLONE", parent=(1, 1)), time=1),
        event(follow(1, ended=True), END, 2),
        event(follow(1, 2, ended=True), END, 3),
    ]
    made = page(tmp_path / "r", records)
    assert made.data["steps"]["instance"] == [0, 1, 0, 1]
    assert [made.text(name) for name in made.data["instances"][0]] == ["#1", "#1b"]
    assert [[step, made.text(words), made.text(parent)] for step, words, parent in made.data["relations"]] == [
        [1, "clone of", "#1"]
    ]


def test_a_packet_that_is_seen_again(tmp_path: Path) -> None:
    """It waited so long that it was given out before it went on: it is one packet."""
    others = [record for number in range(2, 9) for record in packet(number, begin=number * SECOND)]
    records = [event(follow(1), time=0), *others, event(follow(1), NEXT, 10 * SECOND)]
    records.append(event(follow(1, ended=True), END, 10 * SECOND + 1))
    made = page(tmp_path / "r", records)
    assert (made.packets[0].number, made.packets[0].functions) == (1, ["fa", "fb", "fe"])
    assert made.packets[0].outcome == "ended"
    assert len(made.packets) == 8


def test_a_packet_that_never_ends(tmp_path: Path) -> None:
    """It comes in pieces, and takes no more room than one that comes at once."""
    pieces = [event(follow(1), time=number * 2 * SECOND + at) for number in range(8) for at in range(1000)]
    [shown] = (made := page(tmp_path / "r", pieces)).packets
    assert len(shown.functions) == 4000
    assert "4000 steps are left out" in made.data["run"]["notice"]


@pytest.mark.parametrize(("living", "outcome"), [({1}, "unseen"), (set(), "ended"), (None, "unseen")])
def test_one_whose_end_nobody_saw(tmp_path: Path, living: set[int] | None, outcome: str) -> None:
    """The kernel, if it can be asked, says which skbs it still follows."""
    later = packet(2, begin=5 * SECOND)
    made = page(tmp_path / "r", [event(follow(1)), *later], living=living)
    assert made.packets[0].outcome == outcome


def test_times_do_not_go_back(tmp_path: Path) -> None:
    """The clocks of CPUs may differ a little."""
    records = [event(follow(1), time=100), event(follow(1), time=90), event(follow(1, ended=True), END, 130)]
    assert page(tmp_path / "r", records).packets[0].times == [0, 0, 30]


def test_what_is_left_out(tmp_path: Path) -> None:
    """The first packets are all there; of the others, up to as many again, those that went wrong."""
    kinds: dict[int, dict[str, Any]] = {30: {"drops": True}, 31: {"took": 50 * MS}, 32: {"took": 8 * MS}}
    records = [record for number in range(1, 41) for record in packet(number, **kinds.get(number, {}))]
    made = page(tmp_path / "r", sorted(records, key=lambda record: record.time), limit=20)
    assert [packet.number for packet in made.packets] == [*range(1, 11), 30, 31]
    assert "28 packets are left out" in made.data["run"]["notice"]
    assert "went wrong, too" not in made.data["run"]["notice"]
    wrong = [record for number in range(1, 41) for record in packet(number, drops=True)]
    made = page(tmp_path / "r", wrong, limit=20)
    assert [packet.number for packet in made.packets] == [*range(1, 21)]
    assert "20 packets are left out, 20 of which went wrong, too" in made.data["run"]["notice"]


def test_a_packet_with_many_steps(tmp_path: Path) -> None:
    """The first and the last are there, and so is the drop."""
    [shown] = (made := page(tmp_path / "r", packet(1, drops=True, steps=9000))).packets
    assert len(shown.functions) == 4000
    assert shown.functions[0] == "fa"
    assert shown.drops == [(3999, "NO_SOCKET", "udp_rcv")]
    assert "5000 steps are left out" in made.data["run"]["notice"]


def test_records_with_less(tmp_path: Path) -> None:
    """A recording may lack all but the time."""
    plain = schema("time", parts=())
    report = Report(str(tmp_path / "r"))
    report.begin(FakeSource(plain, NAMES))
    report.write(
        cut(plain, record(hit=hit(0xA), packet=b"", rest=u64(1)), record(hit=hit(0xE), packet=b"", rest=u64(9)))
    )
    report.flush()
    report.finish(NOBODY)
    report.close()
    [shown] = Page((tmp_path / "r").read_text()).packets
    assert (shown.functions, shown.addresses, shown.payloads) == (["fa", "fe"], "", [])


def test_records_without_times_are_refused(tmp_path: Path) -> None:
    report = Report(str(tmp_path / "r"))
    with pytest.raises(PwruError, match="`timestamp`"):
        report.begin(FakeSource(schema("follow"), NAMES))
    report.close()
    assert not (tmp_path / "r").exists()


HOSTILE = "</script><!--<script>&\u2028\u2029."


def test_data_are_no_markup(tmp_path: Path) -> None:
    names = FakeNames(lambda _: Function(HOSTILE, HOSTILE), netns=lambda: {7: HOSTILE})
    report = Report(str(tmp_path / "r"), command=[HOSTILE, "\udcff"])
    report.begin(FakeSource(SCHEMA, names))
    report.write([event(follow(1), time=1)])
    report.flush()
    report.finish(NOBODY)
    report.close()
    html = (tmp_path / "r").read_bytes().decode()
    assert html.count("<script") == html.count("</script") == 2
    [data] = re.findall(r'id="data">(.*)</script>', html)
    assert not set(data) & set("<>&\u2028\u2029")
    assert HOSTILE in Page(html).packets[0].functions[0]


def test_the_policy_lets_only_this_program_run(tmp_path: Path) -> None:
    write_made_up(tmp_path / "r", 3)
    html = (tmp_path / "r").read_text()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert rules.pop(directive) == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)


@pytest.mark.parametrize("name", PROGRAM)
def test_the_program_makes_no_markup(name: str) -> None:
    source = (Path(__file__).parents[3] / "pwru/sinks/report" / name).read_text()
    assert source.startswith("// ")
    assert len(source.splitlines()) <= 400
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|</|fetch|XMLHttp|import\("
    assert not re.search(forbidden, source)


def test_the_file(tmp_path: Path) -> None:
    """Only its owner reads it; what was there before goes when the page is written, and not earlier."""
    path = tmp_path / "r"
    path.write_text("before " * 1_000_000)
    report = Report(str(path))
    report.begin(FakeSource(SCHEMA, NAMES))
    report.close()
    assert path.read_text().startswith("before")
    page(path, packet(1))
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.read_text().endswith("</html>\n")
    path.unlink()
    page(path, packet(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere/r", "No such file or directory"),
        ("/", "Is a directory"),
        ("", "No such file or directory"),
        ("a\0", "a NUL is in the name"),
    ],
)
def test_a_file_that_cannot_be_written(path: str, reason: str) -> None:
    with pytest.raises(PwruError, match=f"`report`: cannot write .*: {reason}"):
        Report(path)


def test_a_full_disk() -> None:
    report = Report("/dev/full")
    report.begin(FakeSource(SCHEMA, NAMES))
    report.flush()
    report.finish(NOBODY)
    assert str(report.failure) == "`report`: cannot write /dev/full: No space left on device"
    report.close()
    assert os.path.exists("/dev/full")


def test_a_trace_that_did_not_begin_leaves_no_file(tmp_path: Path) -> None:
    Report(str(tmp_path / "r")).close()
    assert not (tmp_path / "r").exists()
