"""The counts of single hours and days that are over, in a hundredth of the memory of dictionaries."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

_MOST = 1_000_000  # counts of all intervals together, of 12 bytes each
_VALUES = 100_000  # of one kind

Interval: TypeAlias = tuple[int, int, int]
"""A connection, the length of its rollups, and where the interval begins, both in minutes."""

Values: TypeAlias = tuple[Any, ...]


class Counts(NamedTuple):
    """The counts of one interval after so many `changes`, and the numbers of their values, of which some are equal."""

    changes: int
    numbers: array[int]
    counts: array[int]


class _Numbers(dict[Values, int]):
    """The number of each values: a new one for those that are asked for the first time."""

    def __missing__(self, values: Values) -> int:
        number = self[values] = len(self)
        return number


@dataclass(slots=True, eq=False)
class KindOfCounts:
    """What is kept of all intervals of which the same is summed."""

    numbers: _Numbers = field(default_factory=_Numbers)
    intervals: dict[Interval, Counts] = field(default_factory=dict)

    def find(self, interval: Interval, changes: int) -> Counts | None:
        """Return the counts of an interval; None if they are not known after so many `changes`."""
        kept = self.intervals.get(interval)
        return kept if kept is not None and kept.changes == changes else None

    def total(self, intervals: Iterable[Counts]) -> dict[Values, int]:
        """Return the sums of the counts of `intervals` by their values."""
        values = list(self.numbers)  # in the order of their numbers
        totals = [0] * len(values)
        for interval in intervals:
            for number, count in zip(interval.numbers, interval.counts, strict=True):
                totals[number] += count
        return {values[number]: total for number, total in enumerate(totals) if total}


class KeptCounts:
    """The counts of intervals by their kind, at most `most` and those of one reading. Any thread may use it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kinds: dict[Hashable, KindOfCounts] = {}  # in the order of their last use
        self._lock = Lock()

    def kind(self, key: Hashable) -> KindOfCounts:
        """Return what is kept of a kind. If there is too much, those are discarded that were not used for longest."""
        with self._lock:
            kind = self._kinds.pop(key, None)
            self._kinds[key] = kind = KindOfCounts() if kind is None or len(kind.numbers) > _VALUES else kind
            while len(self._kinds) > 1 and self._size() > self._most:
                del self._kinds[next(iter(self._kinds))]
            if self._size() > self._most:
                kind.intervals.clear()
            return kind

    def keep(
        self, kind: KindOfCounts, interval: Interval, changes: int, counts: Iterable[int], values: Iterable[Values]
    ) -> Counts:
        """Keep the counts of an interval after so many `changes`, and return them as they are kept."""
        with self._lock:
            numbers = array("I", map(kind.numbers.__getitem__, values))
            kept = kind.intervals[interval] = Counts(changes, numbers, array("q", counts))
            return kept

    def _size(self) -> int:
        return sum(len(kept.numbers) for kind in self._kinds.values() for kept in kind.intervals.values())
