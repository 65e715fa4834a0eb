"""How long things take: percentiles of any number of durations in little memory.

Up to EXACT values are kept as they are. Beyond that they are counted in buckets that double every SUB buckets, so a
percentile is wrong by ERROR at most, whatever the range. The least and the greatest value are exact in any case.
"""

from collections.abc import Sequence

EXACT = 256
_SUB_BITS = 5
SUB = 1 << _SUB_BITS  # buckets per doubling
ERROR = 1 / (2 * SUB)  # of a value, when its bucket is named by its middle: 1.6 %


class Histogram:
    """Durations in ns, of 0 or more."""

    __slots__ = ("_buckets", "_values", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.count = self.total = self.least = self.most = 0
        self._values: list[int] = []
        self._buckets: dict[int, int] = {}  # empty while the values are kept

    def add(self, value: int) -> None:
        if value < self.least or not self.count:
            self.least = value
        if value > self.most:  # noqa: PLR1730  (a call of max() takes three times as long)
            self.most = value
        self.count += 1
        self.total += value
        if self._buckets:
            bucket = _bucket(value)
            self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
            return
        self._values.append(value)
        if len(self._values) > EXACT:
            for each in self._values:
                self._buckets[_bucket(each)] = self._buckets.get(_bucket(each), 0) + 1
            self._values.clear()

    @property
    def exact(self) -> bool:
        """Whether percentiles are those of the values themselves."""
        return not self._buckets

    def percentile(self, percent: float) -> int:
        """Return the least value that so many percent of all do not exceed: nearest rank, 0 if there are none."""
        if not self.count:
            return 0
        rank = max(1, -(-self.count * percent // 100))
        if rank >= self.count:
            return self.most
        if self.exact:
            return sorted(self._values)[int(rank) - 1]
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                break
        return min(max(_middle(bucket), self.least), self.most)

    def bars(self, count: int) -> Sequence[int]:
        """Return how many values are each of `count` classes of equal ratio has, from the least value on."""
        bars = [0] * count
        if self.count:
            from math import log

            low = log(self.least + 1)
            width = (log(self.most + 1) - low) / count or 1.0
            pairs = (
                ((value, 1) for value in self._values)
                if self.exact
                else (
                    (min(max(_middle(bucket), self.least), self.most), many) for bucket, many in self._buckets.items()
                )
            )
            for value, many in pairs:
                bars[min(int((log(value + 1) - low) / width), count - 1)] += many
        return bars


def _bucket(value: int) -> int:
    """Return the number of the bucket of a value: those below SUB have one each."""
    shift = max(value.bit_length() - _SUB_BITS - 1, 0)
    return (shift << _SUB_BITS) + (value >> shift)


def _middle(bucket: int) -> int:
    """Return the value in the middle of a bucket."""
    shift = max((bucket >> _SUB_BITS) - 1, 0)
    low = (bucket - (shift << _SUB_BITS)) << shift
    return low + ((1 << shift) - 1) // 2
