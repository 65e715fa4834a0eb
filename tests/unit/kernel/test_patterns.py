"""`functions`: what is refused, and that all else comes to an end."""

from __future__ import annotations

import re
import time
from random import Random

import pytest

from pwru.errors import PwruError
from pwru.kernel.patterns import NamePattern

NAMES = [
    "ip_rcv", "tcp_v4_rcv", "udpv6_queue_rcv_one_skb", "__netif_receive_skb_core", "kfree_skb_reason", "a" * 49,
    "_" * 49, "nf_ct_bridge_frag_save_and_then_some_more_of_it_xx",
] * 300  # fmt: skip


@pytest.mark.parametrize(("expression", "place"), [("ip_(rcv", 4), ("*ip", 1), ("ip[", 3), ("a{2,1}", 3)])
def test_bad_expression(expression: str, place: int) -> None:
    with pytest.raises(PwruError) as error:
        NamePattern(expression)
    assert str(error.value).startswith(f"`functions` {expression}: ")
    assert str(error.value).endswith(f" at character {place}")


@pytest.mark.parametrize("expression", ["[[:digit:]]", "a{99999999999999999999}"])
def test_expression_that_python_does_not_take_so(expression: str) -> None:
    with pytest.raises(PwruError, match="`functions`"):
        NamePattern(expression)


@pytest.mark.parametrize("expression", ["(" * 5000, "(" * 5000 + ")" * 5000, "(?:a|" * 3000 + ")" * 3000])
def test_nested_too_deep(expression: str) -> None:
    with pytest.raises(PwruError, match=r"^`functions` [(?:a|]{200}…: its parentheses are nested too deep$"):
        NamePattern(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "(.*)*(.*)*x", "(.*)*", "(a+)+x", "(a*)*b", "(a|aa)+x", "(.?){50}x", "(?:.*.*)*?x", "(_?[a-z0-9]+)+x",
        "(?=(.*)*x).*", "(?>(.*)*)x", "(?!(a+)+x).*", "(.*)*+x", "(?P<name>(.*)*)x", "(x)?(?(1)(.*)*|y)", "ip|(.*)*x",
        ".*.*.*.*.*.*x", "a?" * 50 + "b", "(.{1,40}){1,40}x", "(((a*)*)*)*x", "(.|a){40}x", "(?i)(aa|AA)*x", "(|.*)*x",
    ],
)  # fmt: skip
def test_what_might_never_end(expression: str) -> None:
    with pytest.raises(PwruError, match=r": too many repeats, or one inside another: matching might never end"):
        NamePattern(expression)


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("ip_rcv", 1), (".*", 8), ("tcp_.*|udp.*|__netif_.*", 3), ("(tcp|udp)(_v4|v6)_.*", 2), (".*_(rcv|skb).*", 5),
        ("(__)?[a-z]+_receive.*", 1), (".*n.*f.*t.*", 1), ("(ip_|rcv)*", 1), ("(a|b)+", 1), ("[a-z0-9_]+", 8),
        (r"\w+_\w+_\w+", 6), ("(?i)IP_.*", 1), ("(?!tcp).*", 7), ("(?:_{7})*", 1), ("a{49}", 1), ("^ip.*$", 1),
        ("((((ip_rcv))))", 1), ("(.)\\1*", 2), ("", 0),
    ],
)  # fmt: skip
def test_what_is_possible(expression: str, number: int) -> None:
    pattern = NamePattern(expression)
    assert sum(map(pattern.fullmatch, NAMES[:8])) == number
    assert [pattern.fullmatch(name) for name in NAMES[:8]] == [bool(re.fullmatch(expression, n)) for n in NAMES[:8]]


def test_one_that_takes_long_is_given_a_second() -> None:
    pattern, start = NamePattern("(.*){4}x"), time.thread_time()
    with pytest.raises(PwruError, match=r"^`functions` \(\.\*\)\{4\}x: takes more than 1 s to match; use fewer"):
        [pattern.fullmatch(name) for name in NAMES * 100]
    assert time.thread_time() - start < 3


def test_a_search_that_takes_long_finds_nothing() -> None:
    """It is for a hint only."""
    assert NamePattern("a.*").search("xax")
    assert not NamePattern(".*.*.*.*a").search("xax")


def test_whatever_it_is_there_is_an_end() -> None:
    rng = Random(7)
    pieces = ["a", "_", "x", ".", "[a-z]", "(", "(?:", ")", "|", "*", "+", "?", "{2,}", "{0,9}", "*?", ".*", "\\w+"]
    for _ in range(3000):
        expression = "".join(rng.choices(pieces, k=rng.randrange(1, 14)))
        start = time.thread_time()
        try:
            pattern = NamePattern(expression)
            for name in NAMES[:8]:
                pattern.fullmatch(name)
        except PwruError:
            pass
        assert time.thread_time() - start < 3, expression
