"""The comparison with the Go tool notices every difference, and explains only those that a rule is about."""

from __future__ import annotations

import pytest

from tests.conformance.compare import RULES, Event, Result, compare, ours, theirs
from tests.conformance.flags import COLUMNS

THEIRS = """\
               SKB    CPU          PROCESS                     FUNC
0xffff8a256c5ed900      0   [python3(184)]              ip_send_skb netns=4026532210 mark=0x0 iface=2 proto=0x0800 \
mtu=1500 len=92 10.9.0.1:77->10.9.0.2:99(udp)
0xffff8a256c5ed900      0   [python3(184)]               sock_wfree netns=4026532210 mark=0x0 iface=2 proto=0x0800 \
mtu=1500 len=92 10.9.0.1:77->10.9.0.2:99(udp)
"""
FIRST = (
    "0xffff8a256c5ed900 0   python3:184      4026532210 0              v0:2       0x0800 1500  92    "
    "10.9.0.1:77->10.9.0.2:99(udp) ip_send_skb\n"
)
SECOND = FIRST.replace("ip_send_skb", "sock_wfree")
OURS = FIRST + SECOND
SIGNATURES = {"peek": (1, True, False), "core": (1, False, True), "skb_push": (1, False, False)}


def result(ours_text: str, theirs_text: str = THEIRS) -> Result:
    return compare(list(theirs(theirs_text)), list(ours(ours_text, COLUMNS, "text")), COLUMNS, SIGNATURES)


def test_the_same() -> None:
    found = result(OURS)
    assert (found.events, found.packets, dict(found.explained), found.unexplained) == (2, 1, {"iface": 2}, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" 0   python3", " 1   python3"),
        ("python3:184", "python3:185"),
        ("python3:184", "bash:184"),
        ("4026532210", "4026532211"),
        ("4026532210 0 ", "4026532210 1 "),
        ("v0:2", "v0:3"),
        ("0x0800", "0x86dd"),
        ("1500", "1501"),
        (" 92 ", " 93 "),
        (":77->", ":78->"),
        ("10.9.0.2:", "10.9.0.3:"),
        ("(udp)", "(tcp)"),
        ("ip_send_skb", "ip_send_skb(SKB_CONSUMED)"),
        (FIRST, ""),
        (FIRST + SECOND, SECOND + FIRST),
        (FIRST, FIRST + FIRST.replace("ip_send_skb", "skb_push")),
        (FIRST, FIRST * 2),
    ],
)
def test_what_no_rule_explains(old: str, new: str) -> None:
    assert old in OURS
    assert result(OURS.replace(old, new)).unexplained


@pytest.mark.parametrize(
    ("func", "rule"), [("peek", "const"), ("core", "double"), ("core.constprop.0", "double"), ("f.part.0", "suffix")]
)
def test_functions_that_only_we_trace(func: str, rule: str) -> None:
    found = result(FIRST + FIRST.replace("ip_send_skb", func) + SECOND)
    assert not found.unexplained
    assert found.explained[rule] == 1
    assert rule in RULES


def test_ports_of_fragments() -> None:
    found = result(OURS.replace("10.9.0.1:77->10.9.0.2:99", "10.9.0.1->10.9.0.2"))
    assert (found.explained["fragment"], found.unexplained) == (2, [])


def test_a_line_that_is_none() -> None:
    with pytest.raises(ValueError, match="not a line"):
        result(OURS + "something else\n")


def test_an_address_that_is_used_again_by_what_is_only_here() -> None:
    """The time of the next event is then relative to that event; otherwise nothing explains it."""

    def event(func: str, time: int) -> Event:
        return Event("0x1", func, func, {"cpu": "0", "pid": "1", "process": "p", "time relative": f"{time}"})

    columns = ("time relative",)
    old = [event("ip_rcv", 0), event("sock_rfree", 75_000_000)]
    same = {"const": 1, "clock": 1}  # the time since the previous event, which is only here
    cases = ((0, {"const": 1, "reused": 1}), (5, {"const": 1}), (75_000_000, same))
    for between, rules in ((event("peek", time), rules) for time, rules in cases):
        found = compare(old, [old[0], between, event("sock_rfree", 15_052)], columns, SIGNATURES)
        assert dict(found.explained) == rules
        assert len(found.unexplained) == (0 if len(rules) > 1 else 1)
