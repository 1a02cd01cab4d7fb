"""Plots of activity with their texts: title, units, the text of each point, and the table behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from sluice_agent.server.pages import formats
from sluice_agent.server.pages.plots import (
    WIDTH,
    Line,
    Slot,
    Value,
    bars,
    largest_of,
    line,
    ticks_of_milliseconds,
    ticks_of_numbers,
)
from sluice_agent.server.queries.activity import Interval
from sluice_agent.server.queries.window import Histogram, TimeRange
from sluice_agent.server.record.measures import bounds_of
from sluice_agent.server.timestamps import timestamp_of

_TICKS = 4  # parts of the axis of time
_PERCENTILES = (0.5, 0.95)
_LEAST = 3  # known intervals of a plot
_SHORTEST = 8  # intervals of an axis; their number is a multiple of its parts, so that ticks are between intervals
_MOST_NUMBERS = 5  # intervals whose numbers stand in place of a plot
NOT_KNOWN = "nothing is known"
IN_INTERVAL = {
    TimeRange.HOUR: "in each minute",
    TimeRange.DAY: "in each hour",
    TimeRange.WEEK: "in each 6 hours",
}
PER_INTERVAL = {TimeRange.HOUR: "a minute", TimeRange.DAY: "an hour", TimeRange.WEEK: "in 6 hours"}
"""The interval of a plot, as a part of its unit: of a largest value, and of a number."""


class Series(NamedTuple):
    """A row of values with a name, one for series interval. `style` is the class by which it is drawn."""

    name: str
    style: str
    values: Sequence[Value]


class Row(NamedTuple):
    """A row of the table behind a plot: the label, or the timestamp at which the interval begins, and the cells."""

    label: str
    is_time: bool
    cells: tuple[str, ...]


class Mark(NamedTuple):
    """The area of an interval: where it is, its text, whether it is known and whether it is over."""

    x: float
    width: float
    text: str
    is_known: bool
    is_over: bool


class Gap(NamedTuple):
    """The area of intervals of which nothing is known, and its text."""

    x: float
    width: float
    text: str


class Plot(NamedTuple):
    """A plot as a template draws it.

    `y` are the texts of the vertical axis from its top, `x` those of the other, timestamps if `has_times`. A plot has
    either `slots`, its stacked bars, or `lines`, one for each of `all_series`. `summary` is a sentence about it.
    """

    key: str
    title: str
    unit: str
    first_column: str
    all_series: tuple[Series, ...]
    y: tuple[str, ...]
    x: tuple[str, ...]
    has_times: bool
    slots: Sequence[Slot]
    lines: Sequence[Line]
    marks: Sequence[Mark]
    gaps: Sequence[Gap]
    rows: Sequence[Row]
    summary: str
    known_since: str | None = None
    """When the plot begins, if it leaves out a longer time before of which nothing is known."""

    @property
    def is_empty(self) -> bool:
        """True if nothing is drawn."""
        return all(not value for series in self.all_series for value in series.values)

    @property
    def has_gaps(self) -> bool:
        """True if an interval is not known."""
        return bool(self.gaps)

    @property
    def rows_since_known(self) -> Sequence[Row]:
        """The rows from the first interval that is known."""
        first = next((index for index, mark in enumerate(self.marks) if mark.is_known), 0)
        return self.rows[first:]

    @property
    def is_plotted(self) -> bool:
        """True if there are enough known intervals for a plot to show more than their numbers."""
        known = sum(mark.is_known for mark in self.marks)
        return not self.has_times or self.is_empty or known >= _LEAST or len(self.rows_since_known) > _MOST_NUMBERS


class Axis(NamedTuple):
    """The times of a plot: its intervals, and whether they lie within a day."""

    intervals: Sequence[Interval]

    @property
    def unknown_start(self) -> int:
        """The number of intervals at the start that are left out, since most of the window is not known."""
        count = len(self.intervals)
        first = next((index for index, interval in enumerate(self.intervals) if interval.is_known), 0)
        shown = max(_SHORTEST, -(-(count - first) // _TICKS) * _TICKS)
        return max(0, count - shown) if first * 2 > count else 0

    @property
    def is_within_a_day(self) -> bool:
        """True if a time of day is enough to name an interval."""
        return bool(self.intervals) and self.intervals[-1].stop - self.intervals[0].start < 86_400_000_000

    @property
    def ticks(self) -> tuple[str, ...]:
        """The timestamps at the ends of the axis, and at equal distances between."""
        first, last = self.intervals[0].start, self.intervals[-1].stop
        return tuple(timestamp_of(first + (last - first) * tick // _TICKS) for tick in range(_TICKS + 1))

    def name(self, interval: Interval) -> str:
        """Return the name of an interval, in UTC."""
        return f"{self.name_between(interval, interval)}{'' if interval.is_over else ', so far'}"

    def name_between(self, first: Interval, last: Interval) -> str:
        """Return the name of all intervals from `first` to `last`, in UTC."""
        start, stop = timestamp_of(first.start), timestamp_of(last.stop)
        if self.is_within_a_day:
            return f"{start[11:16]} to {stop[11:16]} UTC"
        until = f"{stop[:10]} " if first is not last else ""
        return f"{start[:10]} {start[11:16]} to {until}{stop[11:16]} UTC"

    def gaps(self) -> list[Gap]:
        """Return the areas that are not known, as long as they are."""
        width = WIDTH / max(1, len(self.intervals))
        gaps, index = [], 0
        for is_known, group in groupby(self.intervals, key=lambda interval: interval.is_known):
            intervals = list(group)
            if not is_known:
                text = f"{self.name_between(intervals[0], intervals[-1])}: {NOT_KNOWN}"
                gaps.append(Gap(round(index * width, 1), round(len(intervals) * width, 1), text))
            index += len(intervals)
        return gaps


def counts_plot(key: str, title: str, unit: str, all_series: Sequence[Series], axis: Axis) -> Plot:
    """Return stacked bars of numbers, one for series interval."""
    all_series, axis, known_since = _known_part(all_series, axis)
    ticks = ticks_of_numbers(largest_of([series.values for series in all_series], stacked=True))
    slots = bars([series.values for series in all_series], ticks.end)
    y = [_number(value) for value in ticks.values]
    return _plot(key, title, unit, all_series, axis, y, slots, (), _number)._replace(known_since=known_since)


def numbers_plot(key: str, title: str, unit: str, all_series: Sequence[Series], axis: Axis) -> Plot:
    """Return lines of numbers."""
    all_series, axis, known_since = _known_part(all_series, axis)
    ticks = ticks_of_numbers(largest_of(series.values for series in all_series))
    lines = [line(series.values, ticks.end) for series in all_series]
    y = [_number(value) for value in ticks.values]
    return _plot(key, title, unit, all_series, axis, y, (), lines, _number)._replace(known_since=known_since)


def durations_plot(key: str, title: str, all_series: Sequence[Series], axis: Axis) -> Plot:
    """Return lines of milliseconds."""
    all_series, axis, known_since = _known_part(all_series, axis)
    ticks = ticks_of_milliseconds(largest_of(series.values for series in all_series))
    lines = [line(series.values, ticks.end) for series in all_series]
    labels = [_axis_duration(value) for value in ticks.values]
    plot = _plot(key, title, "", all_series, axis, labels, (), lines, formats.duration)
    return plot._replace(known_since=known_since)


def throughput_plot(intervals: Sequence[Interval], time_range: TimeRange) -> Plot:
    """Return how many jobs completed and failed in series interval."""
    return ends_plot([_ends(interval) for interval in intervals], intervals, time_range)


def ends_plot(ends: Sequence[tuple[Value, Value]], intervals: Sequence[Interval], time_range: TimeRange) -> Plot:
    """Return the numbers of jobs that completed, and that failed, in series interval."""
    all_series = (
        Series("failed", "failed", [failed for _, failed in ends]),
        Series("completed", "completed", [completed for completed, _ in ends]),
    )
    unit = f"jobs {PER_INTERVAL[time_range]}"
    return counts_plot("throughput", "Completed and failed", unit, all_series, Axis(intervals))


def percentiles_plot(
    key: str, title: str, intervals: Sequence[Interval], durations: Callable[[Interval], Histogram]
) -> Plot:
    """Return the median and the 95th percentile of `durations` in series interval."""
    percentiles = [durations(interval).percentiles(_PERCENTILES) for interval in intervals]
    all_series = (
        Series("p95", "second", [of_interval[1] for of_interval in percentiles]),
        Series("p50", "first", [of_interval[0] for of_interval in percentiles]),
    )
    return durations_plot(key, title, all_series, Axis(intervals))


def histogram_plot(key: str, title: str, durations: Histogram) -> Plot:
    """Return how many durations are in each bucket, between the shortest and the longest one."""
    counts = {bucket: count for bucket, count in durations.counts.items() if bucket and count > 0}
    buckets = _buckets(min(counts, default=1), max(counts, default=1))
    all_series = (Series("runs", "completed", [counts.get(bucket, 0) for bucket in buckets]),)
    ticks = ticks_of_numbers(largest_of(series.values for series in all_series))
    slots = bars([all_series[0].values], ticks.end)
    names = [_bucket_name(bucket) for bucket in buckets]
    values = all_series[0].values
    marks = [
        Mark(slot.x, slot.width, f"{name}: {_number(value)}", is_known=True, is_over=True)
        for slot, name, value in zip(slots, names, values, strict=True)
    ]
    rows = [Row(name, False, (_number(value),)) for name, value in zip(names, values, strict=True)]
    x = tuple(_edge(buckets, len(buckets) * tick // _TICKS) for tick in range(_TICKS + 1))
    y = tuple(_number(value) for value in ticks.values)
    summary = f"{_number(sum(counts.values()))} runs"
    return Plot(key, title, "runs", "Duration", all_series, y, x, False, slots, (), marks, (), rows, summary)


def _known_part(all_series: Sequence[Series], axis: Axis) -> tuple[Sequence[Series], Axis, str | None]:
    """Return series and axis without the start that is left out, and when they begin then."""
    start = axis.unknown_start
    if not start:
        return all_series, axis, None
    intervals = axis.intervals[start:]
    first = next(interval for interval in intervals if interval.is_known)
    return (
        [series._replace(values=series.values[start:]) for series in all_series],
        Axis(intervals),
        timestamp_of(first.start),
    )


def _plot(
    key: str,
    title: str,
    unit: str,
    all_series: Sequence[Series],
    axis: Axis,
    y: Sequence[str],
    slots: Sequence[Slot],
    lines: Sequence[Line],
    text_of: Callable[[float | None], str],
) -> Plot:
    width = WIDTH / max(1, len(axis.intervals))
    marks, rows = [], []
    for index, interval in enumerate(axis.intervals):
        texts = [text_of(series.values[index]) for series in all_series]
        known = ", ".join(f"{series.name} {text}" for series, text in zip(all_series, texts, strict=True))
        text = f"{axis.name(interval)}: {known if interval.is_known else NOT_KNOWN}"
        marks.append(Mark(round(index * width, 1), round(width, 1), text, interval.is_known, interval.is_over))
        rows.append(Row(timestamp_of(interval.start), True, tuple(texts)))
    summary = _summary(all_series, axis, text_of)
    return Plot(
        key, title, unit, "From", tuple(all_series), tuple(y), axis.ticks, True, slots, lines, marks, axis.gaps(), rows,
        summary,
    )  # fmt: skip


def _summary(all_series: Sequence[Series], axis: Axis, text_of: Callable[[float | None], str]) -> str:
    parts = []
    for series in all_series:
        known = [value for value in series.values if value is not None]
        if known:
            latest = text_of(known[-1])
            parts.append(f"{series.name}: {text_of(max(known))} at most, {latest} at the end")
    gaps = sum(not interval.is_known for interval in axis.intervals)
    if gaps:
        parts.append(f"{NOT_KNOWN} of {gaps} of {len(axis.intervals)} intervals")
    return f"{'; '.join(parts)}." if parts else "There is no value."


def _ends(interval: Interval) -> tuple[Value, Value]:
    return (interval.completed, interval.failed) if interval.is_known else (None, None)


def _number(value: float | None) -> str:
    if value is None:
        return formats.MISSING
    return formats.number(int(value)) if value == int(value) else f"{value:g}"


def _axis_duration(milliseconds: float) -> str:
    """Return a duration in one unit."""
    for unit, length in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if milliseconds >= length:
            return f"{milliseconds / length:.3g} {unit}"
    return f"{milliseconds:.3g} ms" if milliseconds else "0"


def _edge(buckets: range, index: int) -> str:
    """Return the duration at which the bucket with this index begins; nothing at the end of the open one."""
    if index < len(buckets):
        return _axis_duration(bounds_of(buckets[index])[0])
    end = bounds_of(buckets[-1])[1]
    return "" if end is None else _axis_duration(end)


def _buckets(first: int, last: int) -> range:
    """Return the buckets from `first` to `last`, and so many beside these that each tick is at the edge of a bar."""
    while (last - first + 1) % _TICKS:
        if bounds_of(last)[1] is not None:
            last += 1
        else:
            first -= 1
    return range(first, last + 1)


def _bucket_name(bucket: int) -> str:
    lower, upper = bounds_of(bucket)
    return (
        f"{_axis_duration(lower)} and more" if upper is None else f"{_axis_duration(lower)} to {_axis_duration(upper)}"
    )
