"""``/definitions/{id}``: one job: its settings in words, its health, its last runs, and its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.schedule import firings
from sluice_agent.jobs.definitions.versions import JobVersion, list_versions
from sluice_agent.jobs.json_text import indented
from sluice_agent.jobs.runs.health import Health, HealthWindow, read_health
from sluice_agent.jobs.runs.search import RunFilter, search_runs
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.pages.jobs_api.definition_actions import POSSIBLE, SWITCHES
from sluice_agent.server.pages.jobs_api.definitions import state_of
from sluice_agent.server.pages.jobs_api.dependencies import DependencyRow, awaited_by, waits_for
from sluice_agent.server.pages.jobs_api.differences import differences
from sluice_agent.server.pages.jobs_api.run_list import RunRow, rows_of
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, WantedScope, scope_of_job
from sluice_agent.server.pages.jobs_api.settings_text import sentences
from sluice_agent.server.pages.render import render
from sluice_agent.server.pages.values import Value, values_within
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_RUNS = 10
_VERSIONS = 10
_FIRINGS = 5
_CHARACTERS = 20_000

WINDOWS = {
    HealthWindow.HOUR: "1 hour",
    HealthWindow.DAY: "1 day",
    HealthWindow.WEEK: "7 days",
    HealthWindow.MONTH: "30 days",
}


class VersionRow(NamedTuple):
    """A version, and what it has changed: the names of settings; none of the first one."""

    id: str
    number: int
    at: str
    changes: Sequence[str]


class HealthView(NamedTuple):
    """The health of a window. Durations are milliseconds. Without runs there is no score."""

    score: float | None
    total: int
    success_rate: float
    not_completed: Sequence[tuple[str, int]]
    mean: float
    p95: float


@dataclass(frozen=True, slots=True)
class DefinitionView:
    """The page of a job."""

    id: str
    name: str
    slug: str
    description: str
    state: str
    paused_at: str | None
    version: int
    version_id: str
    updated_at: str
    updated_by: str | None
    sentences: Sequence[tuple[str, str]]
    values: Sequence[Value]
    """The payload's schema and other settings that are JSON."""
    windows: Sequence[tuple[str, str, bool]]
    """The windows of health: text, address, and whether it is shown."""
    health: HealthView
    firings: Sequence[str]
    waits_for: Sequence[DependencyRow]
    awaited_by: Sequence[DependencyRow]
    runs: Sequence[RunRow]
    versions: Sequence[VersionRow]
    has_more_versions: bool
    queue: str | None
    may_act: bool
    why_not: str | None
    switches: Sequence[tuple[str, str]]
    """What switches the job: a part of the address, and the button's text."""


def definition_router(sources: JobsSources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/definitions/{job_id}")
    def definition(
        request: Request,
        wanted: WantedScope,
        job_id: str,
        window: Annotated[HealthWindow, Query()] = HealthWindow.WEEK,
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, wanted, job_id)
            view = _view(sources, reader, scope, job, window)
        layout = scope.layout(sources, "definitions", view.name, is_live=True)
        return render(request, "definition.html", layout, view)

    return router


def _view(sources: JobsSources, reader: Connection, scope: JobsScope, job: Job, window: HealthWindow) -> DefinitionView:
    settings, now = job.settings, sources.moment
    versions = list_versions(reader, job.id, PageRequest(_VERSIONS + 1)).items
    runs = search_runs(reader, RunFilter(job.project_id, job_id=job.id), PageRequest(_RUNS)).items
    path = f"/definitions/{job.id}"
    state = state_of(job)
    return DefinitionView(
        id=job.id,
        name=settings.name,
        slug=settings.slug,
        description=settings.description,
        state=state,
        paused_at=timestamp_or_none(job.paused_at),
        version=job.version,
        version_id=job.version_id,
        updated_at=timestamp_of(job.updated_at),
        updated_by=job.updated_by,
        sentences=sentences(settings),
        values=_values(job),
        windows=[(text, scope.href(path, window=choice.value), choice is window) for choice, text in WINDOWS.items()],
        health=_health(read_health(reader, job.id, window, now)),
        firings=[timestamp_of(firing) for firing in firings(settings, now, _FIRINGS)] if job.enabled else [],
        waits_for=waits_for(reader, job.id),
        awaited_by=awaited_by(reader, job.id),
        runs=rows_of(reader, runs, now),
        versions=version_rows(versions)[:_VERSIONS],
        has_more_versions=len(versions) > _VERSIONS,
        queue=abandoned_queue(reader),
        may_act=scope.may_act,
        why_not=scope.why_not,
        switches=[(name, SWITCHES[name].verb) for name in POSSIBLE[state]],
    )


def version_rows(versions: Sequence[JobVersion]) -> list[VersionRow]:
    """Return versions, the newest first, with what each has changed in the one after it."""
    rows = []
    for index, version in enumerate(versions):
        before = versions[index + 1] if index + 1 < len(versions) else None
        changes = [] if before is None else differences(before.settings, version.settings)
        labels = [change.label for change in changes]
        rows.append(VersionRow(version.id, version.version, timestamp_of(version.created_at), labels))
    return rows


def _values(job: Job) -> list[Value]:
    settings = job.settings
    pairs = [
        ("Payload schema", settings.payload_schema),
        ("Metadata of each run", settings.default_run_metadata),
        ("Payload of cron’s runs", settings.cron_payload),
    ]
    return values_within([(label, indented(value)) for label, value in pairs if value], _CHARACTERS)


def _health(health: Health) -> HealthView:
    others = [(status, count) for status, count in health.counts.items() if count and status is not Status.COMPLETED]
    return HealthView(
        score=health.score if health.total else None,
        total=health.total,
        success_rate=health.success_rate / 100,
        not_completed=[(status.value, count) for status, count in others],
        mean=health.durations.mean * 1_000,
        p95=health.durations.p95 * 1_000,
    )
