"""The recent jobs of a task as points: when they were created, and how long their last run took. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice_agent.server.pages.plots import ticks_of_milliseconds
from sluice_agent.server.queries.recent_runs import RecentRun
from sluice_agent.server.timestamps import timestamp_of

HEIGHT = 120
"""The height of the plot in pixels; places across are in percent of its width."""

_MARGIN = 2.0  # percent on both sides


class Point(NamedTuple):
    """A job with a known duration: where it is drawn, from the left in percent and from the top in pixels."""

    run: RecentRun
    x: float
    y: float
    is_shown_job: bool


class RunRow(NamedTuple):
    """A job in the table behind the plot."""

    id: str
    external_id: str
    state: str
    created: str
    duration_ms: int | None


class RunPlot(NamedTuple):
    """The points; the durations at the top, the middle and the bottom of the axis, and the times at its ends; and all
    jobs, the newest first, those without a duration included."""

    points: Sequence[Point]
    ticks: Sequence[float]
    start: str
    end: str
    rows: Sequence[RunRow]

    @property
    def has_shown_job(self) -> bool:
        """True if the job of the page is among the points."""
        return any(point.is_shown_job for point in self.points)


def run_plot(runs: Sequence[RecentRun], shown_job: str) -> RunPlot | None:
    """Return the plot of `runs`, in which the job with the id `shown_job` is marked; None if none of them has ended."""
    known = [(run, run.duration_ms) for run in runs if run.duration_ms is not None]
    if not known:
        return None
    start, end = min(run.created_at for run, _ in known), max(run.created_at for run, _ in known)
    ticks = ticks_of_milliseconds(max(duration for _, duration in known))
    points = []
    for run, duration in known:
        share = (run.created_at - start) / (end - start) if end > start else 0.5
        x = _MARGIN + share * (100 - 2 * _MARGIN)
        y = HEIGHT * (1 - duration / ticks.end)
        points.append(Point(run, round(x, 2), round(y, 1), run.id == shown_job))
    rows = [RunRow(run.id, run.external_id, run.state, timestamp_of(run.created_at), run.duration_ms) for run in runs]
    points.sort(key=lambda point: point.is_shown_job)  # on top of the others
    return RunPlot(points, ticks.values, timestamp_of(start), timestamp_of(end), rows)
