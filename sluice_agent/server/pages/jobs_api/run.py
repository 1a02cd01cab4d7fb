"""``/runs/{id}``: one run, with its attempts, what it was given and has answered, and what it is related to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import version_at
from sluice_agent.jobs.json_text import indented, parse
from sluice_agent.jobs.runs.changes import dependent_of
from sluice_agent.jobs.runs.dependencies import standings
from sluice_agent.jobs.runs.search import attempts_of, children_of, settings_of
from sluice_agent.jobs.runs.waiting import obstacle_of
from sluice_agent.jobs.status import UNDER_WAY, UNSUCCESSFUL, Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.webhooks.deliveries import list_deliveries
from sluice_agent.server.pages.jobs_api.run_list import RunRow, durations_of, rows_of
from sluice_agent.server.pages.jobs_api.run_log import LogLine, log_lines
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, WantedScope, scope_of_run
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import Scope
from sluice_agent.server.pages.values import Value, values_within
from sluice_agent.server.queries.stored_job import find_head
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none
from sluice_agent.server.webhooks.schedule import DeliveryState

_CHARACTERS = 40_000
"""Characters of each of payload, result, metadata, log and heads: the API has the whole."""

_LINES = 20  # of the log

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)"
)  # in sentences, which clients of the API read too
_CHILDREN = 20
_DELIVERIES = 10
_PARTS = (
    ("dns_ms", "look-up"),
    ("connect_ms", "connect"),
    ("tls_ms", "TLS"),
    ("ttfb_ms", "first byte"),
    ("transfer_ms", "transfer"),
)
"""Parts of an attempt's time that its trace may have, in their order."""


class AttemptRow(NamedTuple):
    """An attempt; `ran` is in milliseconds. `trace` is its parts in words; `is_repeated` that it began after a
    replay."""

    number: int
    is_first_of_replay: bool
    started_at: str
    ran: int | None
    is_running: bool
    status_code: int | None
    error_class: str | None
    error: str | None
    trace: Sequence[tuple[str, int]]


class DeliveryRow(NamedTuple):
    """A webhook of the run: `result` is what has come of its last attempt."""

    id: str
    url: str
    state: str
    attempts: int
    result: str
    created_at: str
    due_at: str | None


class ProgressView(NamedTuple):
    """How far a run is, as its endpoint has reported last."""

    percent: float
    message: str
    at: str


class Awaited(NamedTuple):
    """A job that the run depends on: its name, the condition, and the run that has decided, if there is one."""

    job_id: str
    name: str
    condition: str
    is_met: bool
    run_id: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class RunView:
    """The page of a run."""

    run: Mapping[str, Any]
    """The columns of its row."""
    job_name: str
    endpoint: str
    environment: str
    max_attempts: int
    version: int
    is_current_version: bool
    facts: Sequence[tuple[str, str | None]]
    """Times by their labels."""
    waited: int | None
    ran: int | None
    is_running: bool
    is_under_way: bool
    attempts: Sequence[AttemptRow]
    times: Sequence[tuple[str, int]]
    """The parts of the run's trace, in milliseconds."""
    given: Sequence[Value]
    answered: Sequence[Value]
    notes: Sequence[Value]
    """Metadata, which the endpoint may add to, and tags."""
    progress: ProgressView | None
    log: Sequence[LogLine]
    has_more_log: bool
    heads: Sequence[Value]
    """Those of the last attempt that has some, if the run is or was in `debug_mode`."""
    heads_of: int | None
    """The number of that attempt."""
    awaited: Sequence[Awaited]
    children: Sequence[RunRow]
    deliveries: Sequence[DeliveryRow]
    celery_job: str | None
    """The id of the Celery job of its attempts, if an agent has reported one."""
    queue_without_workers: str | None
    waits_for: Sequence[str]
    """Why it does not start: a sentence, in parts, of which each second one is a timestamp."""
    actions: Sequence[str]
    """What an operator can do with it: cancel, replay (the same run), replay as a new run, reschedule, or switch
    `debug_mode` on or off."""
    may_act: bool
    why_not: str | None


def run_router(sources: JobsSources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/runs/{run_id}")
    def run(request: Request, wanted: WantedScope, run_id: str) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, row = scope_of_run(sources, reader, wanted, run_id)
            view = run_view(sources, reader, scope, row)
        layout = scope.layout(sources, "runs", f"{view.job_name} · {row.status.replace('_', ' ')}", is_live=True)
        return render(request, "run.html", layout, view, headers=NO_STORE)

    return router


def run_view(sources: JobsSources, reader: Connection, scope: JobsScope, row: Row[Any]) -> RunView:
    """Return the page of the run in `row`."""
    now = sources.moment
    live = settings_of(reader, [row.job_id])[row.job_id]
    version = version_at(reader, row.job_id, row.job_version)
    settings = live if version is None else version.settings
    waited, ran = durations_of(row, now)
    status = Status(row.status)
    attempts = attempts_of(reader, row.id)
    log = log_lines(reader, row.id, PageRequest(_LINES), _CHARACTERS)
    heads_of, heads = _heads(attempts)
    obstacle = obstacle_of(reader, row, now)
    return RunView(
        run=dict(row._mapping),
        job_name=live.name,
        endpoint=settings.endpoint_url,
        environment=settings.environment_id,
        max_attempts=settings.max_attempts,
        version=row.job_version,
        is_current_version=settings == live,
        facts=_times(row),
        waited=waited,
        ran=ran,
        is_running=status is Status.EXECUTING,
        is_under_way=status in UNDER_WAY,
        attempts=[_attempt(item, now) for item in attempts],
        times=_parts_of(row.execution_trace),
        given=_given(row),
        answered=_answered(row),
        notes=_notes(row),
        progress=_progress(row),
        log=log.items,
        has_more_log=log.next is not None,
        heads=heads,
        heads_of=heads_of,
        awaited=_awaited(reader, row) if status is Status.WAITING else [],
        children=rows_of(reader, children_of(reader, row, _CHILDREN), now),
        deliveries=_deliveries(reader, row),
        celery_job=_celery_job(sources, scope.connections, row.task_id or row.id),
        queue_without_workers=obstacle.queue_without_workers,
        waits_for=_TIMESTAMP.split(obstacle.sentence) if obstacle.sentence else [],
        actions=_actions(status, row, settings),
        may_act=scope.may_act,
        why_not=scope.why_not,
    )


def _actions(status: Status, row: Row[Any], settings: JobSettings) -> list[str]:
    actions = []
    if status in UNDER_WAY:
        actions.append("cancel")
    if status is Status.DELAYED:
        actions.append("reschedule")
    if status is Status.DEAD_LETTER:
        actions.append("replay")
    if status in UNSUCCESSFUL:
        actions.append("replay-as-new")
    if (status in UNDER_WAY or status in UNSUCCESSFUL) and settings.task is None:
        actions.append("debug-off" if row.debug_mode else "debug-on")
    return actions


def _progress(row: Row[Any]) -> ProgressView | None:
    if row.progress is None:
        return None
    stored = json.loads(row.progress)
    return ProgressView(stored["percent"], stored.get("message", ""), timestamp_of(stored["at"]))


def _times(row: Row[Any]) -> list[tuple[str, str | None]]:
    """Return those times of a run that matter in its state."""
    is_open = row.finished_at is None
    moments = [("Created", row.created_at)]
    if row.scheduled_at is not None:
        moments.append(("Not before", row.scheduled_at))
    if is_open and row.next_retry_at is not None:
        moments.append(("Next attempt", row.next_retry_at))
    moments += [("Started", row.started_at), ("Ended", row.finished_at)]
    if is_open and row.expires_at is not None and row.first_started_at is None:
        moments.append(("Expires", row.expires_at))
    return [(label, timestamp_or_none(moment)) for label, moment in moments]


def _attempt(row: Row[Any], now: int) -> AttemptRow:
    end = now if row.finished_at is None else row.finished_at
    return AttemptRow(
        number=row.attempt,
        is_first_of_replay=row.attempt == 1 and row.retries > 0,
        started_at=timestamp_of(row.started_at),
        ran=max(0, end - row.started_at) // 1_000,
        is_running=row.finished_at is None,
        status_code=row.status_code,
        error_class=row.error_class,
        error=row.error,
        trace=_parts_of(row.trace),
    )


def _parts_of(trace: str | None) -> list[tuple[str, int]]:
    values = {} if trace is None else json.loads(trace)
    return [(label, values[name]) for name, label in _PARTS if values.get(name)]


def _given(row: Row[Any]) -> list[Value]:
    return values_within([("Payload", _pretty(row.payload))], _CHARACTERS)


def _notes(row: Row[Any]) -> list[Value]:
    pairs = [("Metadata", row.metadata), ("Tags", row.tags)]
    return values_within([(label, _pretty(text)) for label, text in pairs if text], _CHARACTERS)


def _answered(row: Row[Any]) -> list[Value]:
    return values_within([("Result", _pretty(row.result))] if row.result is not None else [], _CHARACTERS)


def _heads(attempts: Sequence[Row[Any]]) -> tuple[int | None, list[Value]]:
    """Return the heads of the last attempt of which some were kept, and its number."""
    for attempt in reversed(attempts):
        exchanges = [] if attempt.trace is None else json.loads(attempt.trace).get("exchanges", [])
        if exchanges:
            pairs = [pair for exchange in exchanges for pair in _heads_of(exchange)]
            return attempt.attempt, values_within(pairs, _CHARACTERS)
    return None, []


def _heads_of(exchange: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield f"Request to {exchange['url']}", _lines(exchange["request_headers"])
    if "status_code" in exchange:
        yield f"Answer {exchange['status_code']}", _lines(exchange.get("answer_headers", {}))


def _lines(headers: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers.items())


def _pretty(text: str) -> str:
    return indented(parse(text.encode()))


def _awaited(reader: Connection, row: Row[Any]) -> list[Awaited]:
    found = standings(reader, dependent_of(row))
    settings: Mapping[str, JobSettings] = settings_of(reader, [item.dependency.depends_on_job_id for item in found])
    return [
        Awaited(
            item.dependency.depends_on_job_id,
            settings[item.dependency.depends_on_job_id].name,
            item.dependency.condition,
            item.is_met,
            item.run_id,
            None if item.status is None else item.status.value,
        )
        for item in found
    ]


def _deliveries(reader: Connection, row: Row[Any]) -> list[DeliveryRow]:
    found = list_deliveries(reader, row.project_id, PageRequest(_DELIVERIES), run_id=row.id).items
    return [
        DeliveryRow(
            id=delivery.id,
            url=delivery.url,
            state=delivery.state,
            attempts=delivery.attempts,
            result=delivery.last_error or (f"answer {delivery.last_status}" if delivery.last_status else ""),
            created_at=timestamp_of(delivery.created_at),
            due_at=timestamp_of(delivery.due_at) if delivery.state == DeliveryState.PENDING.value else None,
        )
        for delivery in found
    ]


def _celery_job(sources: JobsSources, scope: Scope, task_id: str) -> str | None:
    """Return Sluice's id of the Celery job with this id, in the connections that the reader may use."""
    connections = {connection.id: connection.number for connection in scope.connections}
    with sources.pages.store.reading() as reader:
        head = find_head(reader, connections, task_id)
    return None if head is None else job_id(head.connection_id, head.external_id)
