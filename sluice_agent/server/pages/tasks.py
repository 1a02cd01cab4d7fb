"""``/tasks`` and ``/task``: what the jobs of each task do, and those of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.charts import Plot, histogram_plot, percentiles_plot, throughput_plot
from sluice_agent.server.pages.parameters import Label, Shown
from sluice_agent.server.pages.plots import spark_column
from sluice_agent.server.pages.rates import Rate
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.activity import RAN, activity_of, histogram_of
from sluice_agent.server.queries.errors_of_task import ErrorClass, error_classes_of_task
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.labels import find_labels
from sluice_agent.server.queries.last_event import first_event_at
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.pages import page_of, sorted_by
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.tasks import Ends, QueueOfTask, ends_by_task, list_tasks, queues_of_task
from sluice_agent.server.queries.window import Span, TimeRange, plotted_window, window_of
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import DAY, LabelKind
from sluice_agent.server.timestamps import timestamp_of, to_moment

_PAGE = 100  # tasks
_JOBS = 10  # in each list of a task
_NO_ENDS = Ends([], [])


class TaskSort(str, Enum):
    """Columns by which tasks can be sorted."""

    NAME = "name"
    RATE = "rate"
    FAILURES = "failures"
    WAIT = "wait"
    RUN = "run"


class TaskRow(NamedTuple):
    """A task: jobs that ended, and of these a minute; the share that failed; milliseconds of waits and runs by
    percentile. `spark` are the paths of small bars: of the jobs that failed in each interval, and that completed."""

    name: str
    ended: int
    failed: int
    rate: Rate
    failure_rate: float | None
    waits: Mapping[str, int | None]
    runs: Mapping[str, int | None]
    spark: tuple[str, ...]


class TasksView(NamedTuple):
    """A page of tasks. `paging` has `page`, `limit`, `total` and `totalPages`; `hidden` are what a search keeps of the
    parameters."""

    shown: Shown
    sort_by: TaskSort
    sort_order: SortOrder
    search: str
    tasks: Sequence[TaskRow]
    paging: Mapping[str, int]
    interval: str
    hidden: Sequence[tuple[str, str]]


class TaskView(NamedTuple):
    """One task. Durations of `waits` and `runs` are milliseconds at 50, 95 and 99 %."""

    name: str
    shown: Shown
    started: int
    completed: int
    failed: int
    failure_rate: float | None
    waits: Sequence[int | None]
    runs: Sequence[int | None]
    plots: Sequence[Plot]
    queues: Sequence[QueueOfTask]
    errors: Sequence[ErrorClass]
    failures: Sequence[dict[str, Any]]
    slowest: Sequence[dict[str, Any]]
    since: str


_SORTED: Mapping[TaskSort, Callable[[TaskRow], Any]] = {
    TaskSort.NAME: lambda task: task.name,
    TaskSort.RATE: lambda task: task.rate.a_minute,
    TaskSort.FAILURES: lambda task: task.failure_rate,
    TaskSort.WAIT: lambda task: task.waits["p95"],
    TaskSort.RUN: lambda task: task.runs["p95"],
}
_PERCENTILES = (0.5, 0.95, 0.99)


def tasks_router(sources: Sources) -> APIRouter:
    """Return the routes of the list and of one task."""
    router = APIRouter()

    @router.get("/tasks")
    def tasks(
        request: Request,
        principal: PageViewer,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, Query(alias="timeRange")] = TimeRange.HOUR,
        sort_by: Annotated[TaskSort, Query(alias="sortBy")] = TaskSort.RATE,
        sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = SortOrder.DESC,
        search: Annotated[str, Query(max_length=500)] = "",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            every = [] if scope.connection is None else task_rows(reader, scope.connection, time_range, sources)
            found = [task for task in every if search.lower() in task.name.lower()]
            ordered = sorted_by(found, _SORTED[sort_by], is_descending=sort_order is SortOrder.DESC)
            tasks, paging = page_of(ordered, page, _PAGE)
            if scope.connection is not None:
                tasks = with_sparks(reader, scope.connection, tasks, time_range, sources)
        order = {"sortBy": sort_by.value, "sortOrder": sort_order.value}
        shown = Shown("/tasks", {**order, "search": search}, time_range)
        hidden = [*order.items(), ("timeRange", time_range.value)]
        if len(scope.connections) > 1:
            hidden.append(("connectionId", next(iter(scope.numbers))))
        view = TasksView(shown, sort_by, sort_order, search, tasks, paging, _interval_name(time_range), hidden)
        layout = Layout("tasks", f"Tasks · {len(found)}", sources.now(), scope, ("job",))
        return render(request, "tasks.html", layout, view)

    @router.get("/task")
    def task(
        request: Request,
        principal: PageViewer,
        name: Label,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, Query(alias="timeRange")] = TimeRange.HOUR,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            labels = find_labels(reader, LabelKind.NAME, [name])
            if scope.connection is None or not labels:
                raise RefusedError(404, "No job of this task has come. /tasks lists those that are known.")
            view = task_view(reader, scope.connection, name, labels[0], time_range, sources)
        layout = Layout("tasks", f"{name} · {view.failed} failed", sources.now(), scope, ("job",))
        return render(request, "task.html", layout, view)

    return router


def task_rows(
    reader: Connection, connection: NamedConnection, time_range: TimeRange, sources: Sources
) -> list[TaskRow]:
    """Return all tasks that had jobs in the window, without their small bars."""
    window = window_of(Span(time_range.value), to_moment(sources.now()))
    minutes = window.seconds_since(first_event_at(reader, connection.number)) / 60
    return [
        TaskRow(
            item["name"],
            item["completed"] + item["failed"],
            item["failed"],
            Rate(item["completed"] + item["failed"], minutes),
            item["failureRate"] if item["completed"] + item["failed"] else None,
            item["waitMs"],
            item["runMs"],
            (),
        )
        for item in list_tasks(reader, [connection.number], window, sources.past_sums)
    ]


def with_sparks(
    reader: Connection, connection: NamedConnection, tasks: Sequence[TaskRow], time_range: TimeRange, sources: Sources
) -> list[TaskRow]:
    """Return `tasks` with their small bars: the ends of the few that a page shows are read."""
    window = window_of(Span(time_range.value), to_moment(sources.now()))
    if time_range is TimeRange.WEEK:
        window = replace(window, width=DAY)  # counts of days are few
    names = [task.name for task in tasks]
    ends = ends_by_task(reader, connection.number, window, sources.past_sums, names)
    of_tasks = [ends.get(task.name, _NO_ENDS) for task in tasks]
    sparks = spark_column([(of_task.failed, of_task.completed) for of_task in of_tasks])
    return [task._replace(spark=spark) for task, spark in zip(tasks, sparks, strict=True)]


def task_view(
    reader: Connection, connection: NamedConnection, name: str, label: int, time_range: TimeRange, sources: Sources
) -> TaskView:
    """Return the view of the task `name`, of which `label` is the label."""
    now = to_moment(sources.now())
    window = plotted_window(time_range, now)
    intervals = activity_of(reader, connection.number, window, sources.past_sums, name=label)
    together = _together([interval.counts for interval in intervals])
    runs, waits = histogram_of(together, RAN), histogram_of(together, (Measure.STARTED,))
    completed, failed = (sum(together.get(measure, {}).values()) for measure in (Measure.COMPLETED, Measure.FAILED))
    since = window.moments()[0][0]

    def jobs(by: SortBy, **filters: Any) -> list[dict[str, Any]]:
        wanted, order = JobFilter(names=[name], **filters), Order(by, SortOrder.DESC)
        return list_jobs(reader, {connection.id: connection.number}, wanted, order, _JOBS, None, now=now).jobs

    slowest = jobs(SortBy.DURATION_MS, created_from=since)
    return TaskView(
        name,
        Shown("/task", {"name": name}, time_range),
        sum(together.get(Measure.STARTED, {}).values()),
        completed,
        failed,
        failed / (completed + failed) if completed + failed else None,
        waits.percentiles(_PERCENTILES),
        runs.percentiles(_PERCENTILES),
        (
            throughput_plot(intervals, time_range),
            percentiles_plot("runs", "Run time", intervals, lambda interval: interval.runs),
            percentiles_plot("waits", "Wait before the start", intervals, lambda interval: interval.waits),
            histogram_plot("histogram", "Distribution of run time", runs),
        ),
        queues_of_task(reader, connection.number, label, window, sources.past_sums),
        error_classes_of_task(reader, connection.number, label, since),
        jobs(SortBy.COMPLETED_AT, states=[JobState.FAILED]),
        [job for job in slowest if job["durationMs"] is not None],
        timestamp_of(since),
    )


def _together(counts: Sequence[Mapping[Measure, Mapping[int, int]]]) -> dict[Measure, dict[int, int]]:
    """Return the counts of all intervals by measure and bucket."""
    together: dict[Measure, dict[int, int]] = {}
    for of_interval in counts:
        for measure, buckets in of_interval.items():
            of_measure = together.setdefault(measure, {})
            for bucket, count in buckets.items():
                of_measure[bucket] = of_measure.get(bucket, 0) + count
    return together


def _interval_name(time_range: TimeRange) -> str:
    return {TimeRange.HOUR: "5 minutes", TimeRange.DAY: "hour", TimeRange.WEEK: "day"}[time_range]
