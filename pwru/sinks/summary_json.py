"""A summary as one JSON object: docs/summary.schema.json describes it. All times are in ns."""

from pwru.record.histogram import ERROR, Histogram
from pwru.record.summary import Drop, Summary, Taken

_CLASSES = 16  # of a histogram


def members(summary: Summary) -> dict[str, object]:
    return {
        "packets": summary.begun,
        "seconds": round((summary.last - summary.first) / 1e9, 6),
        "packets_dropped": summary.dropped,
        "packets_retransmitted": summary.retransmitted,
        "packets_given_up": summary.evicted,
        "packets_on_their_way": summary.open,
        "events_lost": summary.lost,
        "percentile_error": ERROR,
        "drops": [
            {"count": count, **_drop(drop)} for drop, count in sorted(summary.drops.items(), key=lambda item: -item[1])
        ],
        "other_drops": summary.other_drops,
        "ways": [_way(way) for way in sorted(summary.ways.values(), key=lambda way: -way.times.count)],
        "other_ways": _times(summary.other_ways),
        "stages": [
            {"stage": stage, "detail": detail or None, "times": _times(times)}
            for (stage, detail), times in sorted(summary.stages.items(), key=lambda item: -item[1].total)
        ],
        "spans": [
            {"from": one, "to": other, "times": _times(times)}
            for (one, other), times in sorted(summary.spans.items(), key=lambda item: -item[1].total)
        ],
        "other_spans": _times(summary.other_spans),
        "waiting": [
            {"packet": name, "place": place, "not_seen_for": max(summary.now - seen, 0)}
            for name, place, seen, _ in summary.waiting
        ],
        "other_waiting": summary.other_waiting,
    }


def _drop(drop: Drop) -> dict[str, object]:
    return {
        "reason": drop.reason or None,
        "func": drop.function,
        "place": drop.place or None,
        "netns": drop.netns or None,
        "iface": drop.iface or None,
        "process": drop.process,
    }


def _way(way: Taken) -> dict[str, object]:
    """`functions`: a list per skb, the packet's first one first."""
    return {
        "count": way.times.count,
        "end": way.end,
        "example": way.example,
        "drop": _drop(way.drop) if way.drop else None,
        "functions": way.functions,
        "times": _times(way.times),
    }


def _times(times: Histogram) -> dict[str, object] | None:
    if not times.count:
        return None
    return {
        "count": times.count,
        "total": times.total,
        "min": times.least,
        "p50": times.percentile(50),
        "p99": times.percentile(99),
        "max": times.most,
        "exact": times.exact,
        "histogram": times.bars(_CLASSES),
    }
