"""What a trace that follows packets says of them: which packet an event belongs to, and how each skb came about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from .tracing import Start, Trace

Event = dict[str, Any]
T = TypeVar("T")

TRACKED_BY = {"filter", "skb", "relation", "xdp", "stackid"}


class Skb(NamedTuple):
    packet: int
    instance: int


class Relation(NamedTuple):
    kind: str
    child: Skb
    parent: Skb
    segment: int


def follow(pwru: Start, *arguments: str) -> Trace:
    return pwru("--follow", "--output-json", *arguments)


def ended(trace: Trace) -> list[Event]:
    """Stop a trace and return its events: none is lost, and they agree with each other.

    Hits may be missed: those of an interrupt's packets while a program runs on that CPU, whoever's packets they are.
    """
    assert trace.stop() == 0
    print(trace.account())  # shown if the test fails
    assert lost(trace) == 0
    events = trace.objects()
    seen: set[Skb] = set()
    for event in events:
        assert event["tracked_by"] in TRACKED_BY, event
        if event["packet"] is None:
            assert event["instance"] is None
            continue
        own = skb(event)
        if "relation" in event:
            # A birth is told by the first event of the child, a merge by any.
            assert event["relation"] == "merged" or own not in seen, event
            assert parent(event) != own
        seen.add(own)
    ids = distinct(event["packet"] for event in events if event["packet"] is not None)
    assert ids == list(range(1, len(ids) + 1))
    return events


def lost(trace: Trace) -> int:
    return trace.totals()[1]


def missed(trace: Trace) -> int:
    """The hits at which the kernel ran no program: no more events than these may be missing."""
    number: int = trace.account()["lost"]["probe_missed"]
    return number


def skb(event: Event) -> Skb:
    return Skb(event["packet"], event["instance"])


def parent(event: Event) -> Skb:
    return Skb(event["parent"]["packet"], event["parent"]["instance"])


def relations(events: Iterable[Event]) -> list[Relation]:
    return [
        Relation(event["relation"], skb(event), parent(event), event.get("segment", 0))
        for event in events
        if "relation" in event
    ]


def packets(events: Iterable[Event]) -> list[int]:
    return distinct(event["packet"] for event in events)


def instances(events: Iterable[Event]) -> list[int]:
    return distinct(event["instance"] for event in events)


def at(events: Iterable[Event], *funcs: str) -> list[Event]:
    """The events in these functions."""
    return [event for event in events if func(event) in funcs]


def func(event: Event) -> str:
    """Without what is said of it: the reason of a drop."""
    return str(event["func"]).partition("(")[0]


def of(events: Iterable[Event], which: Skb) -> list[Event]:
    return [event for event in events if skb(event) == which]


def flow(event: Event) -> str:
    ends = event["tuple"]
    return f"{ends['saddr']}:{ends.get('sport')}->{ends['daddr']}:{ends.get('dport')}"


def flows(events: Iterable[Event]) -> list[str]:
    """The tuples in the order in which they come, without repetitions."""
    return distinct(flow(event) for event in events)


def ways(events: Iterable[Event]) -> dict[Skb, list[str]]:
    """The functions that each skb passes."""
    found: dict[Skb, list[str]] = {}
    for event in events:
        found.setdefault(skb(event), []).append(func(event))
    return found


def distinct(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
