"""``/``: what is wrong, what runs and what waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.model import JobState
from sluice_agent.server.access.principal import Principal
from sluice_agent.server.access.worker_environment import LOCAL_CONNECTION, LOCAL_KEY
from sluice_agent.server.pages import findings
from sluice_agent.server.pages.charts import Plot, throughput_plot
from sluice_agent.server.pages.findings import Finding, Limits
from sluice_agent.server.pages.queue_rows import QueueRow, queue_rows
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, Scope, scope_of
from sluice_agent.server.pages.shared_views import SharedViews
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.activity import activity_of
from sluice_agent.server.queries.alerts import firing_alerts
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.jobs import count_jobs
from sluice_agent.server.queries.last_event import first_event_at, last_event_at
from sluice_agent.server.queries.retained import counts_reach_back_to, events_of_day
from sluice_agent.server.queries.tasks import Ends, ends_by_task
from sluice_agent.server.queries.under_way import Running, count_in_state, running_tasks
from sluice_agent.server.queries.window import Span, TimeRange, plotted_window, window_of
from sluice_agent.server.queries.workers import silent_workers
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none, to_moment

_RUNNING = 10  # tasks that are shown
_QUEUES = 10
_DELETED = 2 * 3_600_000_000  # microseconds by which counts reach further back than jobs if jobs were deleted
_MARGIN = timedelta(hours=1)


class RunningRow(NamedTuple):
    """A task with active jobs, and the one of them that runs for the longest time."""

    name: str
    jobs: int
    since: str
    milliseconds: int
    longest_id: str
    longest_external_id: str


class FiringRow(NamedTuple):
    """An alert that fires: its rule, what was measured last, and since when."""

    rule: str
    text: str
    since: str | None


class NowView(NamedTuple):
    """The page at the moment `at`. Before the first event only `is_waiting` matters, with what a worker needs: the
    connection's id, if there is one or any will do, a key, and the address of the API, which is the reader's.

    Times are timestamps. `ended` and `failed` count the jobs of the last hour. `hidden_queues` counts the queues with
    jobs that are not shown. If not `are_all_running`, there are active jobs beside those that `running` counts; if not
    `are_all_waiting`, jobs wait in a queue that is not known.
    """

    at: datetime
    is_waiting: bool
    alerts: list[FiringRow]
    findings: list[Finding]
    ended: int
    failed: int
    known_since: str | None
    last_event: str | None
    active: int
    running: list[RunningRow]
    are_all_running: bool
    waiting: int
    are_all_waiting: bool
    queues: list[QueueRow]
    hidden_queues: int
    throughput: Plot | None
    connection_id: str | None
    key: str
    api_url: str = ""


def now_router(sources: Sources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    def made(connection: NamedConnection | None) -> NowView:
        with sources.store.reading() as reader:
            return now_view(reader, connection, sources)

    views = SharedViews(made)  # everyone leaves this page open

    def scope_for(principal: Principal, connection_id: UUID | None) -> Scope:
        with sources.store.reading() as reader:
            return scope_of(reader, principal, connection_id)

    @router.get("/")
    async def now(request: Request, principal: PageViewer, connection_id: ConnectionId = None) -> HTMLResponse:
        scope = await run_in_threadpool(scope_for, principal, connection_id)
        view = (await views.get(scope.connection))._replace(api_url=f"{request.base_url}api")
        layout = Layout("now", _title(view), view.at, scope, ("job", "worker", "queue"))
        return await run_in_threadpool(render, request, "now.html", layout, view)

    return router


def now_view(reader: Connection, connection: NamedConnection | None, sources: Sources) -> NowView:
    """Return the view of a connection."""
    at = sources.now()
    connection_id, key = (None if connection is None else connection.id), "sk_local_…"
    if connection_id is None and sources.access.takes_any_key:
        connection_id, key = LOCAL_CONNECTION, LOCAL_KEY
    last = None if connection is None else last_event_at(reader, connection.number)
    if connection is None or last is None:
        return NowView(at, True, [], [], 0, 0, None, None, 0, [], True, 0, True, [], 0, None, connection_id, key)
    now = to_moment(at)
    queues = queue_rows(reader, connection, TimeRange.HOUR, now, sources.past_sums)
    ends = ends_by_task(reader, connection.number, window_of(Span(TimeRange.HOUR.value), now), sources.past_sums)
    failed = sum(sum(of_task.failed) for of_task in ends.values())
    found = _findings(reader, connection, sources, queues, ends, last)
    waiting = count_in_state(reader, connection.number, JobState.QUEUED)
    running = running_tasks(reader, connection.number, _RUNNING)
    intervals = activity_of(reader, connection.number, plotted_window(TimeRange.HOUR, now), sources.past_sums)
    filled = sorted(
        (queue for queue in queues if queue.size),
        key=lambda queue: (queue.oldest_wait or 0, queue.size),
        reverse=True,
    )
    return NowView(
        at,
        False,
        [
            FiringRow(alert.rule, alert.text, timestamp_or_none(alert.since))
            for alert in firing_alerts(reader, connection.number)
        ],
        found,
        failed + sum(sum(of_task.completed) for of_task in ends.values()),
        failed,
        timestamp_or_none(first_event_at(reader, connection.number)),
        timestamp_of(last),
        running.total,
        _running_rows(running, now),
        running.is_complete,
        waiting + sum(queue.size - queue.waiting for queue in queues if queue.is_waiting_exact),
        waiting <= sum(queue.waiting for queue in queues) or not all(queue.is_waiting_exact for queue in queues),
        filled[:_QUEUES],
        len(filled) - len(filled[:_QUEUES]),
        throughput_plot(intervals, TimeRange.HOUR),
        connection_id,
        key,
    )


def _findings(
    reader: Connection,
    connection: NamedConnection,
    sources: Sources,
    queues: list[QueueRow],
    ends: Mapping[str, Ends],
    last_event: int,
) -> list[Finding]:
    number, now = connection.number, to_moment(sources.now())
    counts = {
        problem: count_jobs(reader, {connection.id: number}, JobFilter(problem=problem), now) for problem in JobProblem
    }
    return findings.sorted_findings(
        findings.of_problems({problem: (total.jobs, total.is_exact) for problem, total in counts.items()}),
        findings.of_workers(silent_workers(reader, number, now), now),
        findings.of_queues(queue.state for queue in queues),
        findings.of_server(_limits(reader, number, sources), last_event, now),
        findings.of_tasks(ends),
    )


def _limits(reader: Connection, connection: int, sources: Sources) -> Limits:
    now = sources.now()
    events = events_of_day(reader, connection, now.date().isoformat()) if sources.daily_limit is not None else 0
    return Limits(events, sources.daily_limit, _kept_for(reader, connection, sources))


def _kept_for(reader: Connection, connection: int, sources: Sources) -> int | None:
    """Return how far back jobs reach, in microseconds, if older ones were deleted for the size of the database."""
    keep = sources.keep
    if keep.size is None:
        return None
    oldest, counted_from = sources.store.reaches_back_to(), counts_reach_back_to(reader, connection)
    if oldest is None or counted_from is None:
        return None
    reaches_back = sources.now() - oldest
    is_deleted = counted_from < to_moment(oldest) - _DELETED
    is_by_age = keep.age is not None and reaches_back > keep.age - _MARGIN
    return reaches_back // timedelta(microseconds=1) if is_deleted and not is_by_age else None


def _running_rows(running: Running, now: int) -> list[RunningRow]:
    return [
        RunningRow(
            task.name,
            task.jobs,
            timestamp_of(task.since),
            max(0, now - task.since) // 1_000,
            task.id,
            task.external_id,
        )
        for task in running.tasks
    ]


def _title(view: NowView) -> str:
    if view.is_waiting:
        return "Now"
    wrong = len(view.findings) + len(view.alerts)
    return f"Now · {wrong} wrong" if wrong else "Now · nothing wrong"
