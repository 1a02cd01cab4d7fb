"""The geometry of plots: what is drawn where, and what is not drawn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.server.pages.charts import histogram_plot
from sluice_agent.server.pages.plots import (
    HEIGHT,
    SPARK_HEIGHT,
    SPARK_WIDTH,
    WIDTH,
    bars,
    line,
    spark_bars,
    spark_column,
    ticks_of_milliseconds,
    ticks_of_numbers,
)
from sluice_agent.server.queries.window import Histogram
from sluice_agent.server.record.measures import bucket_of

amounts = st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**12)


@given(st.floats(1e-3, 1e12))
def test_an_axis_holds_its_values_and_wastes_little(largest: float) -> None:
    """The largest value would be cut off, or all of them pressed to the ground."""
    ticks = ticks_of_numbers(largest)
    assert largest <= ticks.end * (1 + 1e-6)
    assert ticks.end <= 2.5 * largest or ticks.end <= 2
    assert ticks.values == (ticks.end, ticks.end / 2, 0)


@pytest.mark.parametrize(
    ("largest", "end"), [(0, 1), (1, 1), (1.5, 2), (3, 4), (7, 8), (11, 20), (97, 100), (101, 200), (450, 500)]
)
def test_numbers_end_at_a_round_one(largest: float, end: float) -> None:
    """Nobody reads a value off an axis that ends at 7.3."""
    assert ticks_of_numbers(largest).end == end


@pytest.mark.parametrize(
    ("largest", "end"),
    [(0, 2), (3, 4), (180, 200), (900, 1_000), (2_500, 4_000), (61_000, 120_000), (4_000_000, 7_200_000)],
)
def test_durations_end_at_a_round_one_too(largest: float, end: float) -> None:
    """An axis of minutes that ends at 1,000 s has no half that a reader can name."""
    assert ticks_of_milliseconds(largest).end == end


def test_a_line_does_not_cross_a_gap() -> None:
    """A time of which nothing is known would look as if all had been well."""
    assert line([0, 10, None, 10, 5], 10) == ("M100 100L300 0M700 0L900 50", "")


def test_a_value_between_two_gaps_is_a_dot() -> None:
    """A line of one point is invisible: the value would be lost."""
    assert line([None, 5, None], 10) == ("", "M500 50h0")


def test_bars_are_stacked_from_the_ground() -> None:
    """Failures would hide what completed, or hang in the air."""
    ((slot),) = bars([[2], [6]], 10)
    (failed, low), (completed, high) = slot.bars
    assert (failed, completed) == (0, 1)
    assert (low.y + low.height, low.height) == (HEIGHT, 20)
    assert (high.y + high.height, high.height) == (low.y, 60)


def test_one_failure_among_many_is_seen() -> None:
    """One of a million would be a hair's breadth high."""
    (slot,) = bars([[1], [1_000_000]], 1_000_000)
    assert slot.bars[0][1].height >= 1


def test_a_gap_is_no_zero() -> None:
    """An outage of the server would look like an hour without work."""
    gap, zero = bars([[None, 0], [None, 0]], 10)
    assert (gap.is_gap, zero.is_gap) == (True, False)
    assert gap.bars == zero.bars == ()


@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=60))
def test_everything_is_inside_the_box(values: list[tuple[float, float]]) -> None:
    """A bar would lie over the text above the plot."""
    series = list(zip(*values, strict=True))
    end = ticks_of_numbers(max(sum(pair) for pair in values)).end
    for slot in bars(series, end):
        for _, bar in slot.bars:
            assert bar.x >= 0
            assert bar.x + bar.width <= WIDTH + 0.2
            assert bar.y >= -2.1  # two bars of a least height
            assert bar.y + bar.height <= HEIGHT + 0.1


def test_a_small_plot_has_a_path_for_each_series() -> None:
    """In a list of a hundred tasks an element for each bar would take megabytes."""
    failed, completed = spark_bars(([0, 1], [2, 0]))
    assert failed.startswith(f"M{SPARK_WIDTH * 0.55:g} {SPARK_HEIGHT / 2:g}")
    assert completed.startswith("M4.8 0")
    assert spark_bars(([0, 0], [0, 0])) == ("", "")


def test_small_bars_of_a_column_have_one_axis() -> None:
    """A task with two jobs would look as busy as one with a thousand."""
    (large,), (small,) = spark_column([([[2, 4]]), ([[1, 1]])])
    assert [path.count("v20") for path in (large, small)] == [1, 0]
    assert small.count("v5") == 2


def test_one_interval_is_no_trend() -> None:
    """A single bar says nothing that the number beside it does not."""
    assert spark_column([([0, 3], [0, 1])]) == [()]
    assert spark_column([]) == []


@pytest.mark.parametrize("durations", [[1], [5], [5, 9_000], [10**12], [60_000, 10**12]])
def test_ticks_of_a_histogram_are_at_edges_of_bars(durations: list[int]) -> None:
    """The run time at a bar could not be read; and of a run of months the page of its task would fail."""
    plot = histogram_plot("h", "Runs", Histogram(dict(Counter(map(bucket_of, durations)))))
    starts = [row.label.partition(" to ")[0].removesuffix(" and more") for row in plot.rows]
    assert len(starts) % 4 == 0
    assert [*plot.x[:4]] == starts[:: len(starts) // 4]
    assert sum(int(row.cells[0]) for row in plot.rows) == len(durations)
