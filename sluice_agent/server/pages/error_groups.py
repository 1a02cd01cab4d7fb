"""``/errors`` and ``/error``: errors grouped by class and location, and one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.charts import Axis, Plot, Series, counts_plot
from sluice_agent.server.pages.formats import message_of, number
from sluice_agent.server.pages.parameters import Label, Shown
from sluice_agent.server.pages.plots import spark_column
from sluice_agent.server.pages.render import Layout, Parameters, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.activity import Interval
from sluice_agent.server.queries.error_groups import (
    MOST_JOBS,
    ErrorGroup,
    ErrorGroups,
    ErrorKey,
    count_without_class,
    find_group,
    group_errors,
    tasks_of_group,
)
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.window import TimeRange, Window, plotted_window
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.timestamps import timestamp_of, to_moment

MOST_GROUPS = 100
"""Groups that are listed: the largest."""

_TASKS = 20
_JOBS = 20
_UNITS = {TimeRange.HOUR: "jobs a minute", TimeRange.DAY: "jobs an hour", TimeRange.WEEK: "jobs in 6 hours"}
_INTERVALS = {TimeRange.HOUR: "minute", TimeRange.DAY: "hour", TimeRange.WEEK: "6 hours"}
_NO_GROUPS = ErrorGroups([], 0, 0)
_RANGE = Query(alias="timeRange")


class GroupRow(NamedTuple):
    """A group: its error, times as timestamps, the small plot, and the parameters of its page and of its jobs."""

    group: ErrorGroup
    message: str
    """The newest error without its class."""
    first: str
    last: str
    spark: Sequence[str]
    page: Parameters
    jobs: Parameters
    has_exact_jobs: bool
    """True if the list of `jobs` shows exactly those of the group: where a traceback names a location, or none of the
    class has one."""


@dataclass(frozen=True, slots=True)
class ErrorsView:
    """The groups of a window. `since` and `until` are its ends."""

    shown: Shown
    groups: ErrorGroups
    rows: Sequence[GroupRow]
    most: int
    interval: str
    without_class: int
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class ErrorView:
    """One group: its row, its plot, its tasks with their numbers of jobs, and its newest jobs."""

    shown: Shown
    row: GroupRow
    plot: Plot
    tasks: Sequence[tuple[str, int]]
    jobs: Sequence[dict[str, Any]]

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the jobs: their states if they differ from failed."""
        states = () if all(job["state"] == JobState.FAILED.value for job in self.jobs) else ("state",)
        return ("task", *states, "id", "queue", "ended", "run")


def errors_router(sources: Sources) -> APIRouter:
    """Return the routes of the list and of one group."""
    router = APIRouter()

    @router.get("/errors")
    def errors(
        request: Request,
        principal: PageViewer,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, _RANGE] = TimeRange.DAY,
    ) -> HTMLResponse:
        now = sources.now()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            view = errors_view(reader, scope.connection, time_range, to_moment(now))
        layout = Layout("errors", f"Errors \u00b7 {number(view.groups.jobs)}", now, scope, ("job",))
        return render(request, "errors.html", layout, view)

    @router.get("/error")
    def error(
        request: Request,
        principal: PageViewer,
        error_class: Annotated[Label, Query(alias="errorClass")],
        error_location: Annotated[Label | None, Query(alias="errorLocation")] = None,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, _RANGE] = TimeRange.DAY,
    ) -> HTMLResponse:
        now = sources.now()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            key = ErrorKey(error_class, error_location)
            view = error_view(reader, scope.connection, key, time_range, to_moment(now))
        if view is None:
            raise RefusedError(404, "No job of this time has this error. /errors lists those that there are.")
        layout = Layout("errors", f"{error_class} \u00b7 {number(view.row.group.jobs)}", now, scope, ("job",))
        return render(request, "error_group.html", layout, view)

    return router


def errors_view(reader: Connection, connection: NamedConnection | None, time_range: TimeRange, now: int) -> ErrorsView:
    """Return the page of the errors of a window that ends at the moment `now`."""
    window = plotted_window(time_range, now)
    groups, without_class = _NO_GROUPS, 0
    if connection is not None:
        groups = group_errors(reader, connection.number, window, MOST_GROUPS)
        without_class = count_without_class(reader, connection.number, window)
    with_location = {group.key.error_class for group in groups.shown if group.key.location is not None}
    sparks = spark_column([(_counts(group, window), [0.0] * len(window.moments())) for group in groups.shown])
    rows = [
        _row(group, window, time_range, spark, has_others=group.key.error_class in with_location)
        for group, spark in zip(groups.shown, sparks, strict=True)
    ]
    return ErrorsView(
        Shown("/errors", {}, time_range), groups, rows, MOST_JOBS, _INTERVALS[time_range], without_class, *_ends(window)
    )


def error_view(
    reader: Connection, connection: NamedConnection | None, key: ErrorKey, time_range: TimeRange, now: int
) -> ErrorView | None:
    """Return the page of a group; None if no job of the window has such an error."""
    window = plotted_window(time_range, now)
    group = None if connection is None else find_group(reader, connection.number, window, key)
    if connection is None or group is None:
        return None
    since, until = window.moments()[0][0], window.moments()[-1][1]
    wanted = JobFilter(
        error_classes=[key.error_class],
        error_locations=[key.location] if key.location else [],
        created_from=since,
        created_to=until,
    )
    order = Order(SortBy.CREATED_AT, SortOrder.DESC)
    parameters = {"errorClass": key.error_class, **({"errorLocation": key.location} if key.location else {})}
    return ErrorView(
        Shown("/error", parameters, time_range),
        _row(group, window, time_range, (), has_others=key.location is None),
        _plot(group, window, time_range, now),
        tasks_of_group(reader, connection.number, window, key, _TASKS),
        list_jobs(reader, {connection.id: connection.number}, wanted, order, _JOBS, None, now=now).jobs,
    )


def _row(
    group: ErrorGroup, window: Window, time_range: TimeRange, spark: Sequence[str], *, has_others: bool
) -> GroupRow:
    key = {"errorClass": group.key.error_class, "errorLocation": group.key.location}
    since, until = _ends(window)
    return GroupRow(
        group,
        message_of(group.error, group.key.error_class),
        timestamp_of(group.first),
        timestamp_of(group.last),
        spark,
        {**key, "timeRange": time_range.value},
        {**key, "from": since, "to": until},
        group.key.location is not None or not has_others,
    )


def _counts(group: ErrorGroup, window: Window) -> list[float]:
    return [group.intervals.get(index, 0) for index in range(len(window.moments()))]


def _plot(group: ErrorGroup, window: Window, time_range: TimeRange, now: int) -> Plot:
    intervals = [Interval(start, stop, True, stop <= now) for start, stop in window.moments()]
    series = Series("failed", "failed", _counts(group, window))
    return counts_plot("errors", "When they failed", _UNITS[time_range], (series,), Axis(intervals))


def _ends(window: Window) -> tuple[str, str]:
    moments = window.moments()
    return timestamp_of(moments[0][0]), timestamp_of(moments[-1][1])
