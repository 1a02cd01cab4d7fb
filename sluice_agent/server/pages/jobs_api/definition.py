"""``/definitions/{id}``: one job: its settings in words, its health, its last runs, and its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from sluice_agent.jobs.definitions.dependencies import dependencies_of
from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.schedule import firings
from sluice_agent.jobs.definitions.versions import JobVersion, list_versions
from sluice_agent.jobs.json_text import indented
from sluice_agent.jobs.runs.health import Health, HealthWindow, read_health
from sluice_agent.jobs.runs.search import RunFilter, search_runs, settings_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, see_other
from sluice_agent.server.pages.jobs_api.definitions import state_of
from sluice_agent.server.pages.jobs_api.differences import differences
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.run_list import RunRow, rows_of
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, WantedScope, scope_of_job
from sluice_agent.server.pages.jobs_api.settings_text import sentences
from sluice_agent.server.pages.render import render
from sluice_agent.server.pages.scope import ConnectionId
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


class Dependency(NamedTuple):
    """A job that this one waits for."""

    job_id: str
    name: str
    condition: str


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
    dependencies: Sequence[Dependency]
    runs: Sequence[RunRow]
    versions: Sequence[VersionRow]
    has_more_versions: bool
    queue: str | None
    may_act: bool
    why_not: str | None
    actions: Sequence[tuple[str, str]]
    """What an operator can do beside triggering and editing: a part of the address, and the button's text."""


class _Action(NamedTuple):
    verb: str
    """As the button names it."""
    path: str
    """Of the API, for the job."""
    text: str
    is_danger: bool = False


_ACTIONS = {
    "enable": _Action("Enable", "/jobs/batch-enable", "It can be triggered again, and its schedule goes on from now."),
    "disable": _Action(
        "Disable",
        "/jobs/batch-disable",
        "No run of it starts, and triggers are refused with 400. Runs under way go on. It makes no new version.",
        is_danger=True,
    ),
    "pause": _Action(
        "Pause",
        "/jobs/{id}/pause",
        "Runs can be triggered and keep their place, but none starts. Firings of its schedule are missed meanwhile.",
    ),
    "resume": _Action("Resume", "/jobs/{id}/resume", "Its runs start again."),
}
_POSSIBLE = {"enabled": ("pause", "disable"), "paused": ("resume", "disable"), "disabled": ("enable",)}


def definition_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the page, and of what switches the job."""
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

    @router.get("/definitions/{job_id}/{action}")
    def ask_to_switch(
        request: Request, principal: PageOperator, job_id: str, action: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        switch = _action(action)
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, Wanted(principal, None, connection_id), job_id)
        path = f"/definitions/{job.id}"
        title = f"{switch.verb} {job.settings.name}"
        question = Question(
            title, switch.text, f"{path}/{action}", switch.verb, scope.href(path), is_danger=switch.is_danger
        )
        return ask(request, scope.layout(sources, "definitions", title), question)

    @router.post("/definitions/{job_id}/{action}")
    async def switch(request: Request, _: OperatorForm, job_id: str, action: str) -> Response:
        path = _action(action).path
        if not job_id.replace("-", "").isalnum():
            raise RefusedError(404, "Job not found.")
        body = {"ids": [job_id]} if "batch" in path else None
        answer = await sources.api.send(request, "POST", path.format(id=job_id), body)
        answer.raise_refusal()
        return see_other(f"/definitions/{job_id}")

    return router


def _action(name: str) -> _Action:
    if name not in _ACTIONS:
        raise RefusedError(404, "No page of this server has this address.")
    return _ACTIONS[name]


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
        dependencies=_dependencies(reader, job.id),
        runs=rows_of(reader, runs, now),
        versions=version_rows(versions)[:_VERSIONS],
        has_more_versions=len(versions) > _VERSIONS,
        queue=abandoned_queue(reader),
        may_act=scope.may_act,
        why_not=scope.why_not,
        actions=[(name, _ACTIONS[name].verb) for name in _POSSIBLE[state]],
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


def _dependencies(reader: Connection, job_id: str) -> list[Dependency]:
    found = dependencies_of(reader, job_id)
    settings = settings_of(reader, [dependency.depends_on_job_id for dependency in found])
    return [
        Dependency(dependency.depends_on_job_id, settings[dependency.depends_on_job_id].name, dependency.condition)
        for dependency in found
    ]
