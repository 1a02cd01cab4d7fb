"""Windows of time, and what the rollups counted in them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, pairwise
from typing import TypeAlias

from sqlalchemy import ColumnElement

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.record.measures import bounds_of
from sluice_agent.server.store.schema import DAY, HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT
from sluice_agent.server.timestamps import timestamp_of

_MINUTE = 60_000_000  # microseconds
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
_WIDTHS = (1, 5, 15, HOUR, 6 * HOUR, DAY)  # minutes of an interval
_INTERVALS = 48  # at most, unless they are days

DURATION = re.compile(r"([1-9][0-9]{0,5})([mhd])")
"""A time range: a number of minutes, hours or days."""


Part: TypeAlias = tuple[int, range]
"""The length of rollups, and where they begin, in minutes since 1970."""


@dataclass(frozen=True, slots=True)
class Span:
    """The window that a client asks for: the duration `time_range` up to now, or from one moment to another."""

    time_range: str
    begin: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The minutes since 1970 from `start` and before `stop`. Its intervals begin at multiples of `width` minutes; the
    window may cut the first and the last. `now` is in microseconds, and `name` is the time range as a client reads it.
    """

    name: str
    start: int
    stop: int
    width: int
    now: int

    @property
    def seconds(self) -> float:
        """The length of the window up to now."""
        return max(1.0, (min(self.now, self.stop * _MINUTE) - self.start * _MINUTE) / 1_000_000)

    def seconds_since(self, first: int | None) -> float:
        """Return the length of the window up to now, without what is before `first`; a minute at least. Of what is
        known for five minutes only, a rate is one of these."""
        start = max(self.start * _MINUTE, first or 0)
        return max(60.0, (min(self.now, self.stop * _MINUTE) - start) / 1_000_000)

    @property
    def interval_rollup(self) -> int:
        """The length of the longest rollups of which each is in one interval."""
        return max(length for length in (MINUTE, HOUR, DAY) if self.width % length == 0)

    def interval_of(self, minute: ColumnElement[int]) -> ColumnElement[int]:
        """Return the index of the interval with this minute of the window."""
        return minute // self.width - self.start // self.width

    def interval_at(self, minute: int) -> int:
        """Return the same of a minute that is known."""
        return minute // self.width - self.start // self.width

    def moments(self) -> list[tuple[int, int]]:
        """Return the moments between which each interval lies."""
        edges = [self.start, *range(_floor(self.start, self.width) + self.width, self.stop, self.width), self.stop]
        return list(pairwise(minute * _MINUTE for minute in edges))

    def bounds(self) -> list[tuple[str, str]]:
        """Return the timestamps between which each interval lies."""
        return [(timestamp_of(start), timestamp_of(stop)) for start, stop in self.moments()]

    def parts(self, longest: int = DAY) -> list[Part]:
        """Return what together is the window, of rollups of `longest` minutes at most."""
        lengths = [length for length in (DAY, HOUR, MINUTE) if length <= longest]
        return [part for part in _parts(self.start, self.stop, lengths) if part[1]]

    def past_and_present(self, longest: int = DAY, *, splits_today: bool = False) -> tuple[list[Part], list[Part]]:
        """Return the parts of the window of which each hour is over, and the others. Of today, these are its hours if
        it is to be split."""
        past: list[Part] = []
        present: list[Part] = []
        for length, starts in self.parts(longest):
            over = _floor(self.now // _MINUTE, max(length, HOUR))
            middle = min(max(starts.start, over), starts.stop)
            past.append((length, range(starts.start, middle, length)))
            if length == DAY and splits_today:
                this_hour = min(max(middle, _floor(self.now // _MINUTE, HOUR)), starts.stop)
                past.append((HOUR, range(middle, this_hour, HOUR)))
                present.append((HOUR, range(this_hour, starts.stop, HOUR)))
            else:
                present.append((length, range(middle, starts.stop, length)))
        return [part for part in past if part[1]], [part for part in present if part[1]]


class TimeRange(str, Enum):
    """The windows of plots."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"


_PLOTTED = {TimeRange.HOUR: (HOUR, MINUTE), TimeRange.DAY: (DAY, HOUR), TimeRange.WEEK: (7 * DAY, 6 * HOUR)}
"""The minutes of each of these windows, and of its intervals: of such, few rollups need be read."""


def plotted_window(time_range: TimeRange, now: int) -> Window:
    """Return the window up to `now` of a plot: whole intervals, of which the last is not over."""
    duration, width = _PLOTTED[time_range]
    stop = _floor(now // _MINUTE, width) + width
    return Window(time_range.value, stop - duration, stop, width, now)


def days_until(now: int, days: int) -> Window:
    """Return the window of today and of so many days of UTC before it."""
    today = _floor(now // _MINUTE, DAY)
    return Window(f"{days}d", today - days * DAY, today + DAY, DAY, now)


def window_of(span: Span, now: int) -> Window:
    """Return the window of `span`. Raises `RefusedError` (400) if there is none, or nothing is kept for so long."""
    if span.begin is None:
        if span.end is not None:
            raise _refusal("to", "It needs from: the moment at which the window begins.")
        return _window_until_now(span.time_range, now)
    end = now if span.end is None else min(span.end, now)
    if span.begin >= end:
        parameter = "from" if span.end is None else "to"
        raise _refusal(parameter, "The window must begin before it ends, and before now.")
    this_minute, start = now // _MINUTE, span.begin // _MINUTE
    unit = MINUTE if start >= this_minute - MINUTES_KEPT else HOUR
    start, stop = _floor(start, unit), _floor(-(-end // _MINUTE) + unit - 1, unit)
    _require_kept("from", start, this_minute)
    width = next((width for width in _WIDTHS if width >= unit and stop - start <= _INTERVALS * width), DAY)
    return Window(f"{timestamp_of(start * _MINUTE)}/{timestamp_of(stop * _MINUTE)}", start, stop, width, now)


def _window_until_now(time_range: str, now: int) -> Window:
    """Return a window of whole intervals, of which the last is not over."""
    match = DURATION.fullmatch(time_range)
    if match is None:
        raise _refusal("timeRange", "It is not a duration such as 90m, 36h or 3d.")
    duration = int(match[1]) * _UNITS[match[2]]
    width = next((width for width in _WIDTHS if duration <= _INTERVALS * width), DAY)
    stop = _floor(now // _MINUTE, width) + width
    start = stop - -(-duration // width) * width
    _require_kept("timeRange", start, now // _MINUTE)
    return Window(time_range, start, stop, width, now)


def _require_kept(parameter: str, start: int, this_minute: int) -> None:
    if start < this_minute - HOURS_KEPT:
        raise _refusal(parameter, f"Counts are kept for {HOURS_KEPT // DAY} days: begin later.")


def _refusal(parameter: str, message: str) -> RefusedError:
    return RefusedError(400, f"{parameter}: {message}", {parameter: message})


def _parts(start: int, stop: int, lengths: list[int]) -> Iterator[Part]:
    """Yield whole intervals of the first of `lengths`, and of the others what is before and after them."""
    length, *shorter = lengths
    first, end = -(-start // length) * length, _floor(stop, length)
    if first >= end and shorter:
        yield from _parts(start, stop, shorter)
        return
    if shorter:
        yield from _parts(start, first, shorter)
    yield length, range(first, end, length)
    if shorter:
        yield from _parts(end, stop, shorter)


def _floor(minute: int, length: int) -> int:
    return minute // length * length


@dataclass(frozen=True, slots=True)
class Histogram:
    """Numbers of durations by the bucket of `measures`. Those in bucket 0 are unknown, and do not count."""

    counts: dict[int, int]

    @property
    def known(self) -> int:
        """The number of durations that are known."""
        return sum(count for bucket, count in self.counts.items() if bucket and count > 0)

    @property
    def mean(self) -> float | None:
        """The mean duration in milliseconds, with each in the middle of its bucket; None if there is none."""
        total = sum(count for bucket, count in self.counts.items() if bucket)
        if not total:
            return None
        return round(sum(count * _middle(bucket) for bucket, count in self.counts.items() if bucket) / total, 1)

    def percentiles(self, shares: Sequence[float]) -> list[int | None]:
        """Return for each of `shares` the milliseconds below which such a share of the durations is, as far as buckets
        show; None if there is none."""
        known = sorted([(bucket, count) for bucket, count in self.counts.items() if bucket and count > 0])
        if not known:
            return [None] * len(shares)
        passed = list(accumulate([count for _, count in known]))  # with each bucket
        return [_duration_at(share * passed[-1], known, passed) for share in shares]


def _duration_at(wanted: float, known: Sequence[tuple[int, int]], passed: Sequence[int]) -> int:
    """Return the milliseconds below which `wanted` of the durations are."""
    index = bisect_left(passed, wanted)
    bucket, count = known[index]
    lower, upper = bounds_of(bucket)
    return lower if upper is None else round(lower + (upper - lower) * (wanted - passed[index] + count) / count)


def _middle(bucket: int) -> float:
    lower, upper = bounds_of(bucket)
    return lower if upper is None else (lower + upper) / 2
