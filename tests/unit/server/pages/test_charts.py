"""Plots of activity: what they show of a time of which little is known."""

from __future__ import annotations

from sluice_agent.server.pages.charts import Plot, throughput_plot
from sluice_agent.server.queries.activity import Interval
from sluice_agent.server.queries.window import TimeRange

MINUTE = 60_000_000


def plot(known: str) -> Plot:
    """Return the plot of minutes since midnight, those that are known marked by ``x``."""
    intervals = [
        Interval(minute * MINUTE, (minute + 1) * MINUTE, mark == "x", True) for minute, mark in enumerate(known)
    ]
    return throughput_plot(intervals, TimeRange.HOUR)


def test_neighbouring_unknown_minutes_are_one_area() -> None:
    """Their seams would look like bars."""
    shown = plot("x..x....xx")
    assert [(gap.x, gap.width) for gap in shown.gaps] == [(100, 200), (400, 400)]
    assert shown.gaps[0].text == "00:01 to 00:03 UTC: nothing is known"


def test_a_window_that_is_mostly_unknown_begins_where_something_is_known() -> None:
    """What a new server knows would be at the edge of an empty plot."""
    shown = plot("." * 40 + "x" * 20)
    assert len(shown.slots) == len(shown.marks) == len(shown.rows) == 20
    assert (shown.x[0], shown.known_since) == ("1970-01-01T00:40:00.000Z", "1970-01-01T00:40:00.000Z")
    assert shown.gaps == []
    shortest = plot("." * 57 + "xxx")
    assert len(shortest.slots) == 8
    assert shortest.known_since == "1970-01-01T00:57:00.000Z"
    assert plot("." * 20 + "x" * 40).known_since is None
    assert len(plot("." * 60).slots) == 60


def test_two_minutes_are_numbers() -> None:
    """A plot of two bars shows nothing that their numbers do not."""
    intervals = [Interval(minute * MINUTE, (minute + 1) * MINUTE, minute > 57, True) for minute in range(60)]
    empty = throughput_plot(intervals, TimeRange.HOUR)
    shown = empty._replace(all_series=[series._replace(values=[*[None] * 6, 1, 2]) for series in empty.all_series])
    assert empty.is_plotted
    assert not shown.is_plotted
    assert [row.label for row in shown.rows_since_known] == ["1970-01-01T00:58:00.000Z", "1970-01-01T00:59:00.000Z"]
