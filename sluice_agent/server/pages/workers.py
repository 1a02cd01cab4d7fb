"""``/workers`` and ``/worker``: which workers there are and what they run, and one of them over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState, WorkerState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.charts import IN_INTERVAL, Axis, Plot, Series, ends_plot, numbers_plot
from sluice_agent.server.pages.formats import as_datetime
from sluice_agent.server.pages.parameters import Label, Shown
from sluice_agent.server.pages.rates import Rate
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.activity import NO_SAMPLE, Interval, ends_on_worker, known_intervals, samples_of
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.jobs import count_jobs, list_jobs
from sluice_agent.server.queries.labels import find_labels
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.pages import page_of, sorted_by
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.window import TimeRange, plotted_window
from sluice_agent.server.queries.workers import find_worker, list_workers
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.timestamps import to_moment

_PAGE = 100  # workers
_JOBS = 25  # that run on a worker
_NOT_SHOWN = frozenset(
    ("software", "softwareVersion", "python", "agent", "heartbeatInterval", "processedTotal", "loadavg", "dropped")
)
"""What is shown elsewhere, of what workers report in metadata."""


class WorkerColumn(str, Enum):
    """Columns by which workers can be sorted."""

    NAME = "name"
    STATE = "state"
    ACTIVE = "active"
    RATE = "rate"
    SEEN = "seen"


class Software(NamedTuple):
    """The versions that a worker reports, None for others."""

    celery: str | None
    python: str | None
    agent: str | None

    @property
    def text(self) -> str:
        """The versions in words."""
        named = (("Celery", self.celery), ("Python", self.python), ("agent", self.agent))
        return ", ".join(f"{name} {version}" for name, version in named if version) or "unknown versions"


class WorkerRow(NamedTuple):
    """A worker. `rate` counts jobs a minute in the last hour, or since it was first seen, `dropped` the events that its
    agent has dropped; `last_seen` is a timestamp. `facts` are further values that it reports."""

    id: str
    hostname: str
    state: str
    active: int
    concurrency: int | None
    rate: Rate
    processed: int | None
    last_seen: str | None
    queues: Sequence[str]
    software: Software
    dropped: int
    pid: int | None
    first_seen: str
    facts: Sequence[tuple[str, str]]


class WorkersView(NamedTuple):
    """A page of workers; `is_gone` if those are listed that are offline. `versions` counts the workers by what they
    run, the most frequent first."""

    is_gone: bool
    shown: Shown
    sort_by: WorkerColumn
    sort_order: SortOrder
    workers: Sequence[WorkerRow]
    versions: Sequence[tuple[Software, int]]
    paging: Mapping[str, int]


class WorkerView(NamedTuple):
    """One worker, with the jobs that it runs now, the longest running first. `lost` counts those that an earlier
    process of it has started, unless the worker is gone: then all are."""

    shown: Shown
    worker: WorkerRow
    plots: Sequence[Plot]
    jobs: Sequence[dict[str, Any]]
    active: int
    lost: int


_SORTED: Mapping[WorkerColumn, Callable[[WorkerRow], Any]] = {
    WorkerColumn.NAME: lambda worker: worker.id,
    WorkerColumn.STATE: lambda worker: worker.state,
    WorkerColumn.ACTIVE: lambda worker: worker.active,
    WorkerColumn.RATE: lambda worker: worker.rate.a_minute,
    WorkerColumn.SEEN: lambda worker: worker.last_seen,
}


def workers_router(sources: Sources) -> APIRouter:
    """Return the routes of the list and of one worker."""
    router = APIRouter()

    @router.get("/workers")
    def workers(
        request: Request,
        principal: PageViewer,
        connection_id: ConnectionId = None,
        state: Annotated[WorkerState | None, Query()] = None,
        sort_by: Annotated[WorkerColumn, Query(alias="sortBy")] = WorkerColumn.NAME,
        sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = SortOrder.ASC,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> HTMLResponse:
        now = to_moment(sources.now())
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            every = [worker_row(worker, now) for worker in list_workers(reader, scope.numbers, state, None, now)]
        ordered = sorted_by(every, _SORTED[sort_by], is_descending=sort_order is SortOrder.DESC)
        workers, paging = page_of(ordered, page, _PAGE)
        is_gone = state is WorkerState.OFFLINE
        filters = {} if state is None else {"state": state.value}
        shown = Shown("/workers", {**filters, "sortBy": sort_by.value, "sortOrder": sort_order.value})
        view = WorkersView(is_gone, shown, sort_by, sort_order, workers, _versions(every), paging)
        title = f"Workers · {len(every)} gone" if is_gone else f"Workers · {_online(every)} online"
        return render(request, "workers.html", Layout("workers", title, sources.now(), scope, ("worker",)), view)

    @router.get("/worker")
    def worker(
        request: Request,
        principal: PageViewer,
        id_: Annotated[Label, Query(alias="id")],
        connection_id: ConnectionId = None,
        time_range: Annotated[TimeRange, Query(alias="timeRange")] = TimeRange.HOUR,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            found = scope.connection
            view = None if found is None else worker_view(reader, found, id_, time_range, sources)
        if view is None:
            raise RefusedError(404, "No worker with this id has reported. /workers lists those that have.")
        layout = Layout("workers", f"{id_} · {view.worker.state}", sources.now(), scope, ("worker", "job"))
        return render(request, "worker.html", layout, view)

    return router


def worker_view(
    reader: Connection, connection: NamedConnection, id_: str, time_range: TimeRange, sources: Sources
) -> WorkerView | None:
    """Return the view of the worker with the framework's `id_`; None if none has reported."""
    now = to_moment(sources.now())
    found = find_worker(reader, (connection.id, connection.number), id_, now)
    if found is None:
        return None
    wanted = JobFilter(states=[JobState.ACTIVE], workers=[id_])
    longest = Order(SortBy.STARTED_AT, SortOrder.ASC)
    numbers = {connection.id: connection.number}
    page = list_jobs(reader, numbers, wanted, longest, _JOBS, None, now=now)
    is_gone = found["state"] == WorkerState.OFFLINE.value
    lost = 0 if is_gone else count_jobs(reader, numbers, JobFilter(workers=[id_], problem=JobProblem.LOST), now).jobs
    (label,) = find_labels(reader, LabelKind.WORKER, [id_])
    plots = _plots(reader, connection.number, label, time_range, now)
    shown = Shown("/worker", {"id": id_}, time_range)
    return WorkerView(shown, worker_row(found, now), plots, page.jobs, page.total, lost)


def worker_row(worker: Mapping[str, Any], now: int) -> WorkerRow:
    """Return a worker as `list_workers` has it in a row."""
    minutes = (now - to_moment(as_datetime(worker["createdAt"]))) / 60_000_000
    metadata = worker["metadata"]
    dropped = metadata.get("dropped")
    facts = [(name, str(value)) for name, value in sorted(metadata.items()) if name not in _NOT_SHOWN]
    return WorkerRow(
        worker["externalId"],
        worker["hostname"],
        worker["state"],
        worker["activeJobs"],
        worker["concurrency"],
        Rate(round(worker["taskRate"] * 60), min(max(minutes, 1), 60)),
        worker["processedTotal"],
        worker["lastHeartbeat"],
        worker["queues"],
        _software(metadata),
        sum(count for count in dropped.values() if type(count) is int) if isinstance(dropped, dict) else 0,
        worker["pid"],
        worker["createdAt"],
        facts,
    )


def _plots(reader: Connection, connection: int, label: int, time_range: TimeRange, now: int) -> Sequence[Plot]:
    window = plotted_window(time_range, now)
    samples = samples_of(reader, connection, label, window)
    ends = ends_on_worker(reader, connection, label, window)
    reported = {index for index, sample in enumerate(samples) if sample != NO_SAMPLE}
    if not reported:  # it has no heartbeat: whether jobs of others came is all that is known
        reported = known_intervals(reader, connection, window, ())
    reported |= {index for index, counts in enumerate(ends) if any(counts)}
    intervals = [
        Interval(start, stop, index in reported, stop <= now) for index, (start, stop) in enumerate(window.moments())
    ]
    axis = Axis(intervals)
    shown_ends = [counts if index in reported else (None, None) for index, counts in enumerate(ends)]
    most = f"the most {IN_INTERVAL[time_range]}"
    active = Series("active jobs", "first", [sample.depth for sample in samples])
    plots = [
        numbers_plot("active", "Active jobs", most, [active], axis),
        ends_plot(shown_ends, intervals, time_range),
    ]
    loads = [None if sample.load is None else max(0.0, sample.load) for sample in samples]
    if any(load is not None for load in loads):
        plots.append(numbers_plot("load", "Load of the machine", most, [Series("load", "first", loads)], axis))
    return plots


def _versions(workers: Sequence[WorkerRow]) -> list[tuple[Software, int]]:
    counts: dict[Software, int] = {}
    for worker in workers:
        counts[worker.software] = counts.get(worker.software, 0) + 1
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))


def _online(workers: Sequence[WorkerRow]) -> int:
    return sum(worker.state != WorkerState.OFFLINE.value for worker in workers)


def _software(metadata: Mapping[str, Any]) -> Software:
    """Return the versions in metadata. Some name Celery's version with its name, others beside it."""
    celery = metadata.get("softwareVersion", metadata.get("software"))
    versions = (celery, metadata.get("python"), metadata.get("agent"))
    return Software(*(None if value is None else str(value).removeprefix("celery ") for value in versions))
