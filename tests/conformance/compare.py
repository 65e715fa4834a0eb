"""Compares the two outputs of one run, and finds the rule that explains each difference. Pure: lines in, counts out.

A packet is matched by the address of its skb, its events by function and order. Each event of the Go tool must be
found, with the same values. A rule is an intended difference; its text goes into the report.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Signatures = dict[str, tuple[int, bool, bool]]
Values = dict[str, str]

RULES = {
    "const": "`const struct sk_buff *`: the Go tool does not trace such functions",
    "double": "`struct sk_buff **`: the Go tool does not trace such functions",
    "suffix": "the compiler gave the function a suffix (`.constprop.0`, …): the Go tool looks for the name without it",
    "reason": "the Go tool of this version has no drop reason at sk_skb_reason_drop and kfree_skb_list_reason",
    "iface": "the interface has a name; the Go tool of this version prints only its index",
    "process": "the Go tool looks up the executable when it prints, and finds none, or a name that is not the thread's",
    "fragment": "a later fragment has no ports: the Go tool takes its payload for them",
    "extension": "after IPv6 extension headers: the Go tool takes the first next-header for the protocol",
    "clock": "two programs read the clock one after the other: they differ by less than 50 ms in an emulated guest",
    "reused": "--timestamp=relative: a reused skb address is another packet, whose time begins at 0",
    "printed": "the Go tool prints the time of day at which it printed; here it is the time of the event",
    "not IP": "a packet without an IP header, such as ARP, has no tuple: the Go tool makes one up",
    "protocol": "the protocol has a name or a number where the Go tool prints neither",
}


class Event(NamedTuple):
    """A line: the function's name without drop reason or suffix, the name as printed, and the columns."""

    skb: str
    func: str
    printed: str
    values: Values


class Result(NamedTuple):
    events: int  # of theirs, each found among ours
    packets: int
    values: int
    explained: Counter[str]
    unexplained: list[str]


_THEIRS = re.compile(
    r"(?:(?P<clock>\d\d:\d\d:\d\d\.\d+) +)?(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +\[(?P<process>.+)\((?P<pid>\d+)\)\]"
    r" +(?P<func>\S+(?: \(\d+\))?)(?: +(?P<stamp>\d+))?"
    r"(?: netns=(?P<netns>\d+) mark=0x(?P<mark>[0-9a-f]+) iface=(?P<iface>\d+) proto=0x(?P<proto>[0-9a-f]+)"
    r" mtu=(?P<mtu>\d+) len=(?P<len>\d+))?(?: (?P<tuple>\S+->\S+))?"
)
_OURS = r"(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +(?P<process>.+?):(?P<pid>\d+) +"
_OURS_TIME = {
    "time current": ("", r"(?P<stamp>\d+) +"),
    "time relative": ("", r"(?P<stamp>\d+) +"),
    "time absolute": (r"\S+T(?P<clock>\d\d:\d\d:\d\d\.\d+) ", r"(?P<stamp>\d+) +"),
}
_OURS_META = (
    r"(?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?P<iface>\S+) +0x(?P<proto>[0-9a-f]{4}) (?P<mtu>\d+) +(?P<len>\d+) +"
)
_OURS_TUPLE = r"(?:(?P<tuple>\S+->\S+) +| {6,})"
_OURS_FUNC = r"(?P<func>\S+(?: \(\d+\))?)"
_TUPLE = re.compile(r"(\[.*?\]|[\d.]+)(?::(\d+))?->(\[.*?\]|[\d.]+)(?::(\d+))?\((.*)\)")
_WITHOUT_REASON = ("sk_skb_reason_drop", "kfree_skb_list_reason")
_L4 = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


def theirs(text: str) -> Iterator[Event]:
    for line in text.splitlines():
        if line.split()[0] not in ("SKB", "TIME"):
            yield _event(_match(_THEIRS, line.strip()))


def ours(text: str, columns: Sequence[str], form: str) -> Iterator[Event]:
    if form == "json":
        yield from map(_from_json, map(json.loads, text.splitlines()))
        return
    first, stamp = _OURS_TIME.get(columns[-1], ("", ""))
    parts = (_OURS_META if "netns" in columns else "", _OURS_TUPLE if "tuple" in columns else "")
    line_of = re.compile("".join((first, _OURS, stamp, *parts, _OURS_FUNC)))
    for line in text.splitlines():
        if line.split()[0] not in ("SKB", "TIME"):
            yield _event(_match(line_of, line))


def _match(pattern: re.Pattern[str], line: str) -> dict[str, str | None]:
    match = pattern.fullmatch(line)
    if not match:
        raise ValueError(f"not a line of this format: {line}")
    return match.groupdict()


def _event(fields: dict[str, str | None]) -> Event:
    func = fields.pop("func") or ""
    clock, stamp = (fields.pop(name, None) for name in ("clock", "stamp"))
    values = {name: value or "" for name, value in fields.items()}
    values |= {"time current": stamp or "", "time relative": stamp or "", "time absolute": clock or ""}
    return Event(values.pop("skb"), re.sub(r"[ .(].*", "", func), func, values)


def _from_json(line: dict[str, Any]) -> Event:
    """Return an event whose values are spelled as in text; a missing key is an error."""
    process, _, pid = line["process"].rpartition(":")
    values = {"cpu": str(line["cpu"]), "process": process, "pid": pid, "netns": str(line["netns"])}
    values |= {"mark": f"{line['mark']:x}", "iface": line["iface"], "proto": f"{line['proto']:04x}"}
    values |= {"mtu": str(line["mtu"]), "len": str(line["len"]), "tuple": ""}
    if t := line["tuple"]:
        source, destination = (f"[{t[key]}]" if ":" in t[key] else t[key] for key in ("saddr", "daddr"))
        if t["sport"] is not None or t["proto"] in (1, 58):  # text prints ports for these protocols, too
            source, destination = f"{source}:{t['sport'] or 0}", f"{destination}:{t['dport'] or 0}"
        values["tuple"] = f"{source}->{destination}({_L4.get(t['proto'], t['proto'])})"
    return Event(line["skb"], re.sub(r"[ .(].*", "", line["func"]), line["func"], values)


def compare(left: list[Event], right: list[Event], columns: Sequence[str], signatures: Signatures) -> Result:
    """Compare the Go tool's events, `left`, with ours."""
    explained: Counter[str] = Counter()
    unexplained: list[str] = []
    compared = 0
    packets = {event.skb: None for event in [*left, *right]}
    for skb in packets:
        of_left, of_right = ([event for event in events if event.skb == skb] for events in (left, right))
        # The time of events since the last pair that are only here, and whether one of them begins another packet.
        between, again = 0, False
        for a, b in align(of_left, of_right):
            if a and b:
                for column in ("func", "cpu", "pid", "process", *columns):
                    compared += 1
                    old, new = (e.printed if column == "func" else e.values[column] for e in (a, b))
                    if column == "time relative":
                        new = str(int(new) + between) if int(new) else new
                    if old == new:
                        continue
                    if rule := _difference(column, old, new):
                        explained[rule] += 1
                    elif column == "time relative" and again:
                        explained["reused"] += 1
                    else:
                        unexplained.append(f"{skb} {b.func}: {column}: {old!r}, here {new!r}")
                between, again = 0, False
            elif b:
                between += (ns := int(b.values.get("time relative") or 0))
                again |= not ns
                if rule := _more(b, signatures):
                    explained[rule] += 1
                else:
                    unexplained.append(f"{skb} {b.printed}: only here: {b.values}")
            elif a:
                unexplained.append(f"{skb} {a.printed}: not here: {a.values}")
    return Result(len(left), len(packets), compared, explained, unexplained)


def align(left: list[Event], right: list[Event]) -> Iterator[tuple[Event | None, Event | None]]:
    """Yield pairs of the same function in order: as many as possible, and among those the ones that differ least."""
    # best[i][j]: of left[i:] and right[j:]
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], _likeness(left[i], right[j]) + best[i + 1][j + 1])
    i = j = 0
    while i < len(left) or j < len(right):
        both = i < len(left) and j < len(right)
        if both and (likeness := _likeness(left[i], right[j])) and best[i][j] == likeness + best[i + 1][j + 1]:
            yield left[i], right[j]
            i, j = i + 1, j + 1
        elif i == len(left) or (both and best[i][j] == best[i][j + 1]):
            yield None, right[j]
            j += 1
        else:
            yield left[i], None
            i += 1


_TELLING = ("pid", "netns", "len", "mark", "proto", "tuple")


def _likeness(a: Event, b: Event) -> float:
    return (
        1 + sum(a.values[name] == b.values[name] for name in _TELLING if name in a.values and name in b.values) / 1024
        if a.func == b.func
        else 0
    )


def _more(event: Event, signatures: Signatures) -> str:
    """Return the rule that explains why an event is only among ours, or ""."""
    _, const, double = signatures.get(event.func, (0, False, False))
    if double:
        return "double"
    if const:
        return "const"
    return "suffix" if "." in event.printed else ""


def _func(old: str, new: str) -> str:
    if new.startswith(f"{old}."):
        return "suffix"
    return "reason" if old in _WITHOUT_REASON and new.startswith(f"{old}(SKB_") else ""


def _iface(old: str, new: str) -> str:
    return "iface" if old == new.rpartition(":")[2] else ""


def _process(old: str, new: str) -> str:
    return "process" if old == "<empty>" or old.startswith(new) else ""


def _tuple(old: str, new: str) -> str:
    if (old, new) == (":0->:0()", ""):
        return "not IP"
    a, b = _TUPLE.fullmatch(old), _TUPLE.fullmatch(new)
    if not a or not b or (a[1], a[3]) != (b[1], b[3]):
        return ""
    if a[5] != b[5]:
        return ("extension" if b[1].startswith("[") else "protocol") if not a[5] else ""
    return "fragment" if b[2] is None else ""


def _clock(old: str, new: str) -> str:
    """Compare times in ns."""
    if new == "0":
        return "reused"
    return "clock" if old and new and abs(int(old) - int(new)) < 50_000_000 else ""


def _time_of_day(old: str, new: str) -> str:
    hours, minutes, seconds = (float(a) - float(b) for a, b in zip(old.split(":"), new.split(":"), strict=True))
    late = (hours * 3600 + minutes * 60 + seconds) % 86400
    return "printed" if late < 60 else ""


def _difference(column: str, old: str, new: str) -> str:
    judge = _DIFFERENCES.get(column)
    return judge(old, new) if judge else ""


_DIFFERENCES: dict[str, Callable[[str, str], str]] = {
    "func": _func,
    "iface": _iface,
    "process": _process,
    "tuple": _tuple,
    "time current": _clock,
    "time relative": _clock,
    "time absolute": _time_of_day,
}
