"""Windows of time, and what the rollups counted in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import ColumnElement

from sluice_agent.server.record.measures import bounds_of
from sluice_agent.server.timestamps import timestamp_of

_MINUTE = 60_000_000  # microseconds
HOUR = 60  # minutes


class TimeRange(str, Enum):
    """How far back a window reaches."""

    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"


@dataclass(frozen=True, slots=True)
class Window:
    """Equal intervals of `width` minutes, which begin at the minutes `starts`, the last one not over; and the minutes
    of the rollups that serve them. `now` is in microseconds."""

    rollup_minutes: int
    width: int
    starts: range
    now: int

    @property
    def seconds(self) -> float:
        """The length of the window up to now."""
        return max(1.0, (self.now - self.starts[0] * _MINUTE) / 1_000_000)

    def interval_of(self, minute: ColumnElement[int]) -> ColumnElement[int]:
        """Return the index of the interval with this minute of the window."""
        return (minute - self.starts[0]) // self.width

    def bounds(self) -> list[tuple[str, str]]:
        """Return the timestamps between which each interval lies."""
        return [(timestamp_of(start * _MINUTE), timestamp_of((start + self.width) * _MINUTE)) for start in self.starts]


_SHAPES = {
    TimeRange.HOUR: (1, 5, 12),
    TimeRange.SIX_HOURS: (1, 15, 24),
    TimeRange.DAY: (HOUR, HOUR, 24),
    TimeRange.WEEK: (HOUR, 6 * HOUR, 28),
}
"""Minutes of the rollups, minutes of an interval, and the number of intervals."""


def window_of(time_range: TimeRange, now: int) -> Window:
    """Return the window of `time_range` that ends `now`."""
    rollup_minutes, width, count = _SHAPES[time_range]
    last = now // _MINUTE // width * width
    return Window(rollup_minutes, width, range(last - (count - 1) * width, last + width, width), now)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Numbers of durations by the bucket of `measures`. Those in bucket 0 are unknown, and do not count."""

    counts: dict[int, int]

    @property
    def mean(self) -> float | None:
        """The mean duration in milliseconds, with each in the middle of its bucket; None if there is none."""
        total = sum(count for bucket, count in self.counts.items() if bucket)
        if not total:
            return None
        return round(sum(count * _middle(bucket) for bucket, count in self.counts.items() if bucket) / total, 1)

    def percentile(self, share: float) -> int | None:
        """Return the milliseconds below which a `share` of the durations is, as far as buckets show; None if there is
        none."""
        known = sorted((bucket, count) for bucket, count in self.counts.items() if bucket and count > 0)
        wanted = share * sum(count for _, count in known)
        passed = 0
        for bucket, count in known:
            if passed + count >= wanted:
                lower, upper = bounds_of(bucket)
                return lower if upper is None else round(lower + (upper - lower) * (wanted - passed) / count)
            passed += count
        return None


def _middle(bucket: int) -> float:
    lower, upper = bounds_of(bucket)
    return lower if upper is None else (lower + upper) / 2
