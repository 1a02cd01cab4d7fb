"""``/queues`` and ``/queue``: what waits where and for how long, and one queue over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.charts import (
    IN_INTERVAL,
    PER_INTERVAL,
    Axis,
    Plot,
    Series,
    numbers_plot,
    percentiles_plot,
)
from sluice_agent.server.pages.parameters import Label, Shown
from sluice_agent.server.pages.queue_rows import QueueRow, queue_rows
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.activity import activity_of, samples_of
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.labels import find_labels
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.pages import sorted_by
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.window import TimeRange, plotted_window
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.timestamps import to_moment

_JOBS = 25  # that wait


class QueueColumn(str, Enum):
    """Columns by which queues can be sorted."""

    NAME = "name"
    DEPTH = "depth"
    WAITING = "waiting"
    WAIT = "wait"
    NET = "net"
    RATE = "rate"
    FAILURES = "failures"


class QueuesView(NamedTuple):
    """All queues. `without_workers` is that of the jobs API, if runs wait in it and no worker takes them."""

    shown: Shown
    sort_by: QueueColumn
    sort_order: SortOrder
    queues: Sequence[QueueRow]
    without_workers: str | None


class QueueView(NamedTuple):
    """One queue, with the jobs that wait there, the oldest first; `waiting` counts them, at least if not
    `is_waiting_exact`. Without `has_snapshots` there are no plots of depth and consumers."""

    shown: Shown
    queue: QueueRow
    plots: Sequence[Plot]
    has_snapshots: bool
    jobs: Sequence[dict[str, Any]]
    waiting: int
    is_waiting_exact: bool


_SORTED: Mapping[QueueColumn, Callable[[QueueRow], Any]] = {
    QueueColumn.NAME: lambda queue: queue.name,
    QueueColumn.DEPTH: lambda queue: queue.depth,
    QueueColumn.WAITING: lambda queue: queue.waiting,
    QueueColumn.WAIT: lambda queue: queue.oldest_wait,
    QueueColumn.NET: lambda queue: queue.net,
    QueueColumn.RATE: lambda queue: queue.rate.a_minute,
    QueueColumn.FAILURES: lambda queue: queue.failure_rate,
}


def queues_router(sources: Sources) -> APIRouter:
    """Return the routes of the list and of one queue."""
    router = APIRouter()

    @router.get("/queues")
    def queues(
        request: Request,
        principal: PageViewer,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, Query(alias="timeRange")] = TimeRange.HOUR,
        sort_by: Annotated[QueueColumn | None, Query(alias="sortBy")] = None,
        sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = SortOrder.DESC,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            every = [] if scope.connection is None else _rows(reader, scope.connection, time_range, sources)
        if sort_by is None:
            has_depth = any(queue.depth is not None for queue in every)
            sort_by = QueueColumn.DEPTH if has_depth else QueueColumn.WAITING
        ordered = sorted_by(every, _SORTED[sort_by], is_descending=sort_order is SortOrder.DESC)
        shown = Shown("/queues", {"sortBy": sort_by.value, "sortOrder": sort_order.value}, time_range)
        view = QueuesView(shown, sort_by, sort_order, ordered, _without_workers(request))
        layout = Layout("queues", f"Queues · {len(ordered)}", sources.now(), scope, ("job", "queue"))
        return render(request, "queues.html", layout, view)

    @router.get("/queue")
    def queue(
        request: Request,
        principal: PageViewer,
        name: Label,
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, Query(alias="timeRange")] = TimeRange.HOUR,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            view = None if scope.connection is None else queue_view(reader, scope.connection, name, time_range, sources)
        if view is None:
            raise RefusedError(404, "No job of this queue is known, and no snapshot. /queues lists those that are.")
        layout = Layout("queues", f"{name} · {view.queue.size} waiting", sources.now(), scope, ("job", "queue"))
        return render(request, "queue.html", layout, view)

    return router


def _without_workers(request: Request) -> str | None:
    """Return the queue of the jobs API from which no worker takes runs, if the server has one."""
    find: Callable[[], str | None] | None = getattr(request.app.state, "abandoned_queue", None)
    return None if find is None else find()


def queue_view(
    reader: Connection, connection: NamedConnection, name: str, time_range: TimeRange, sources: Sources
) -> QueueView | None:
    """Return the view of the queue `name`; None if it is not known."""
    labels = find_labels(reader, LabelKind.QUEUE, [name])
    row = next((row for row in _rows(reader, connection, time_range, sources) if row.name == name), None)
    if not labels or row is None:
        return None
    now = to_moment(sources.now())
    wanted = JobFilter(states=[JobState.QUEUED], queues=[name])
    oldest = Order(SortBy.STATE_CHANGED_AT, SortOrder.ASC)
    page = list_jobs(reader, {connection.id: connection.number}, wanted, oldest, _JOBS, None, now=now)
    plots = _plots(reader, connection.number, labels[0], time_range, sources)
    shown = Shown("/queue", {"name": name}, time_range)
    has_snapshots = any(plot.key == "depth" for plot in plots)
    return QueueView(shown, row, plots, has_snapshots, page.jobs, page.total, page.is_total_exact)


def _rows(reader: Connection, connection: NamedConnection, time_range: TimeRange, sources: Sources) -> list[QueueRow]:
    return queue_rows(reader, connection, time_range, to_moment(sources.now()), sources.past_sums)


def _plots(reader: Connection, connection: int, label: int, time_range: TimeRange, sources: Sources) -> Sequence[Plot]:
    window = plotted_window(time_range, to_moment(sources.now()))
    intervals = activity_of(reader, connection, window, sources.past_sums, queue_label=label)
    samples = samples_of(reader, connection, label, window)
    axis = Axis(intervals)
    arrived = [interval.queued if interval.is_known and interval.is_over else None for interval in intervals]
    left = [interval.started if interval.is_known and interval.is_over else None for interval in intervals]
    flow = (Series("arrived", "second", arrived), Series("left", "first", left))
    plots = (
        numbers_plot("flow", "Arrived and left", f"jobs {PER_INTERVAL[time_range]}", flow, axis),
        percentiles_plot("waits", "Wait before the start", intervals, lambda interval: interval.waits),
    )
    if all(sample.depth is None and sample.consumers is None for sample in samples):
        return plots
    return (
        numbers_plot(
            "depth", "Depth", "jobs at most", [Series("depth", "first", [sample.depth for sample in samples])], axis
        ),
        *plots,
        numbers_plot(
            "consumers",
            "Consumers",
            f"the most {IN_INTERVAL[time_range]}",
            [Series("consumers", "first", [sample.consumers for sample in samples])],
            axis,
        ),
    )
