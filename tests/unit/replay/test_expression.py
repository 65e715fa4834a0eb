"""A condition on fields of the skb, for what was recorded: which columns it looks at, and what it takes from each."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.record.parts import Field
from pwru.record.schema import Record
from pwru.replay.expression import ExpressionTest
from pwru.replay.source import Replay
from pwru.replay.wanted import Wanted
from tests.support import recordings, records

FIELDS = (
    Field("skb->skb_iif", True, bits=32),
    Field("skb->hash", False, bits=32),
    Field("skb->pkt_type", False, bits=3),
)
SCHEMA = records.schema(parts=("meta", "time"), fields=FIELDS)
# Marks, and the values of the fields.
EVENTS = [(1, -1, 0xFFFFFFFF, 0), (2, 7, 0, 7), (3, 7, 1, 3), (1, 7, 9, 7)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "x.pwru"
    events: list[Record] = []
    for number, (mark, *values) in enumerate(EVENTS):
        raw = records.record(packet=records.meta(mark=mark, protocol=0x86DD), rest=records.u64(number, *values))
        events += records.cut(SCHEMA, raw)
    recordings.write(path, [events], schema=SCHEMA)
    return path


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("skb->mark == 1", "packet", [0, 3]),
        ("skb->mark & 2 == 0 || skb->len != 84", "packet", [0, 3]),
        ("skb->protocol == 0xdd86", "packet", [0, 1, 2, 3]),  # as the kernel has it: of the network
        ("skb->dev->ifindex > -1 && skb->dev->mtu == 1500", "packet", [0, 1, 2, 3]),
        ("skb->dev->nd_net.net->ns.inum == 4026531840", "packet", [0, 1, 2, 3]),
        ("skb->skb_iif < 0", "details", [0]),
        ("skb->skb_iif == skb->hash", "details", [0]),
        ("skb->skb_iif < skb->hash", "details", [3]),
        ("skb->pkt_type == 7", "details", [1, 3]),
        ("skb->pkt_type > skb->skb_iif", "details", [0]),  # 3 bits become int
        ("skb->hash > -1", "details", []),  # and -1 becomes unsigned
        ("skb->mark == 1 && skb -> pkt_type == 7", "packet details", [3]),
    ],
)
def test_conditions(recording: Path, text: str, columns: str, expected: list[int]) -> None:
    replay = Replay([str(recording)])
    assert ExpressionTest(text, replay.schema).columns == tuple(columns.split())
    found = [record for batch in replay.read(Wanted(skb_expr=text), None) for record in batch]
    replay.close()
    assert [record[5] for record in found] == expected


def test_it_joins_the_other_filters(recording: Path) -> None:
    """Whatever columns they look at."""
    replay = Replay([str(recording)])
    wanted = Wanted(skb_expr="skb->mark != 2 && skb->pkt_type == 7", mark=1, mark_mask=0xFF, comm="ping")
    assert [len(batch) for batch in replay.read(wanted, None)] == [1]
    replay.close()


def test_what_was_not_recorded() -> None:
    message = "'skb->tstamp' was not recorded: `skb_metadata` must name it .*; this one has skb->dev->ifindex, .*hash"
    with pytest.raises(PwruError, match=message):
        ExpressionTest("skb->tstamp == 0", SCHEMA)
    with pytest.raises(PwruError, match=r"'skb->mark' was not recorded.*this one has no fields"):
        ExpressionTest("skb->mark == 0", records.schema(parts=("time",)))


def test_frames_of_xdp_pass() -> None:
    """They have no skb that a condition could be about, as in a live trace."""
    fields = (*FIELDS, Field("skb->mark", False, bits=32), Field("xdp->frame_sz", False, "xdp", 32))
    test = ExpressionTest("skb->pkt_type == 7", records.schema(fields=fields))
    assert [test(records.u64(0, 0, 7, 0, of_xdp)) for of_xdp in (0, 1)] == [True, True]
    assert [test(records.u64(0, 0, 6, 0, of_xdp)) for of_xdp in (0, 1)] == [False, True]
