"""The geometry of plots, as numbers that templates draw: pure functions without colours, texts or markup.

A plot is a box of `WIDTH` × `HEIGHT` units that the page stretches to its width. A value of None is a gap: nothing is
drawn there, and no line crosses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 1_000, 100

SPARK_WIDTH, SPARK_HEIGHT = 96, 20

Value = float | None

_GAP = 0.2  # of a bar's slot that is left free
_LEAST = 0.001  # a smaller value is drawn on the ground
_NICE = (1, 2, 4, 5, 6, 8, 10)
_MILLISECONDS = (
    *(2 * 10**power * factor for power in range(3) for factor in (1, 2, 5)),
    *(seconds * 1_000 for seconds in (2, 4, 10, 20, 30, 60)),
    *(minutes * 60_000 for minutes in (2, 4, 10, 20, 30, 60)),
    *(hours * 3_600_000 for hours in (2, 4, 6, 12, 24, 48, 96, 240)),
)
"""Ends of an axis of durations, of which the half is a round duration too."""


class Bar(NamedTuple):
    """A rectangle. A stack of them stands in the slot of an interval."""

    x: float
    y: float
    width: float
    height: float


class Slot(NamedTuple):
    """What is drawn for an interval: a bar of each series, from the bottom up, those without height left out; `index`
    is that of the series. If it is a gap, nothing is known of it."""

    x: float
    width: float
    bars: tuple[tuple[int, Bar], ...]
    is_gap: bool


class Line(NamedTuple):
    """The path of a line, and that of its dots: the values between two gaps, through which no line goes."""

    path: str
    dots: str


class Ticks(NamedTuple):
    """An axis from 0: its end, and the values at its end, in the middle and at 0."""

    end: float
    values: tuple[float, float, float]


def ticks_of_numbers(largest: float) -> Ticks:
    """Return an axis that holds `largest`, with a round end; of whole numbers if it is above 1."""
    if largest < _LEAST:
        return _ticks(1)
    power = 1.0
    while power * 10 < largest:
        power *= 10
    while power > largest:
        power /= 10
    end = next(power * factor for factor in _NICE if power * factor >= largest * (1 - 1e-9))
    return _ticks(2 if 1 < end < 2 else end)


def ticks_of_milliseconds(largest: float) -> Ticks:
    """Return an axis of durations that holds `largest`."""
    return _ticks(next((end for end in _MILLISECONDS if end >= largest), largest))


def bars(series: Sequence[Sequence[Value]], end: float) -> list[Slot]:
    """Return the stacks of `series`, which have a value for each interval, on an axis that ends at `end`.

    An interval is a gap if the first series has no value there.
    """
    count = max(1, len(series[0]) if series else 0)
    width = WIDTH / count
    slots = []
    for index, values in enumerate(zip(*series, strict=True)):
        x = index * width
        is_gap = values[0] is None
        stack = () if is_gap else tuple(_stack(values, x + width * _GAP / 2, width * (1 - _GAP), end))
        slots.append(Slot(_round(x), _round(width), stack, is_gap))
    return slots


def line(values: Sequence[Value], end: float) -> Line:
    """Return the line through `values`, one for each interval, on an axis that ends at `end`."""
    width = WIDTH / max(1, len(values))
    parts: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            parts[-1].append(f"{_round((index + 0.5) * width):g} {_round(HEIGHT * (1 - value / end)):g}")
    lines = (f"M{'L'.join(part)}" for part in parts if len(part) > 1)
    dots = (f"M{part[0]}h0" for part in parts if len(part) == 1)
    return Line("".join(lines), "".join(dots))


def spark_column(rows: Sequence[Sequence[Sequence[float]]]) -> list[tuple[str, ...]]:
    """Return the small bars of each row of a column, on one axis; none for a row with values in one interval only."""
    end = max((largest_of(series, stacked=True) for series in rows), default=0)
    return [
        spark_bars(series, end) if sum(any(values) for values in zip(*series, strict=True)) > 1 else ()
        for series in rows
    ]


def spark_bars(series: Sequence[Sequence[float]], end: float = 0) -> tuple[str, ...]:
    """Return the path of the small bars of each of `series`, which are stacked on an axis that ends at `end`, or else
    at their largest value."""
    end = end or largest_of(series, stacked=True) or 1
    scale = SPARK_WIDTH / WIDTH
    paths = [""] * len(series)
    for slot in bars(series, end):
        for index, (x, y, width, height) in slot.bars:
            top, tall = (_round(value * SPARK_HEIGHT / HEIGHT) for value in (y, height))
            paths[index] += (
                f"M{_round(x * scale):g} {top:g}h{_round(width * scale):g}v{tall:g}h{_round(-width * scale):g}z"
            )
    return tuple(paths)


def largest_of(series: Iterable[Sequence[Value]], *, stacked: bool = False) -> float:
    """Return the largest value of any series, or of the sums of all if they are `stacked`; 0 if there is none."""
    if stacked:
        return max((sum(value or 0 for value in values) for values in zip(*series, strict=True)), default=0)
    return max((value for values in series for value in values if value is not None), default=0)


def _ticks(end: float) -> Ticks:
    return Ticks(end, (end, end / 2, 0))


def _stack(values: Sequence[Value], x: float, width: float, end: float) -> Iterator[tuple[int, Bar]]:
    bottom = float(HEIGHT)
    for index, value in enumerate(values):
        if value:
            height = max(HEIGHT * value / end, 1.0)  # a count that is not zero can be seen
            bottom -= height
            yield index, Bar(_round(x), _round(bottom), _round(width), _round(height))


def _round(number: float) -> float:
    return round(number, 1)
