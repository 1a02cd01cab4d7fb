"""``/definitions``: the jobs that are defined, with their schedule and their last run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Row

from sluice_agent.jobs.definitions.jobs import Job, list_jobs, search_jobs
from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.runs.search import latest_runs
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsSources, WantedScope, jobs_scope_of
from sluice_agent.server.pages.no_jobs import no_jobs_page
from sluice_agent.server.pages.render import render
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_LIMIT = 50

Search = Annotated[str, Query(max_length=500, pattern=r"^[^\x00]*$")]


class DefinitionRow(NamedTuple):
    """A job in the list."""

    id: str
    name: str
    slug: str
    endpoint: str
    state: str
    version: int
    cron: str
    zone: str
    next_fire_at: str | None
    last_status: str | None
    last_at: str | None
    last_run: str | None


class DefinitionsView(NamedTuple):
    """The list. `queue` is one without workers."""

    rows: Sequence[DefinitionRow]
    search: str
    queue: str | None
    may_act: bool
    why_not: str | None
    first: str | None
    older: str | None


def definitions_router(sources: JobsSources) -> APIRouter:
    """Return the route of the list."""
    router = APIRouter()

    @router.get("/definitions")
    def definitions(request: Request, wanted: WantedScope, search: Search = "", cursor: Cursor = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = jobs_scope_of(sources, reader, wanted)
            if scope.project is None:
                return no_jobs_page(sources.pages, request, "definitions", scope.connections)
            page = PageRequest(_LIMIT, position_of(cursor) if cursor else None)
            text = search.strip()
            found = search_jobs(reader, scope.project, page, text) if text else list_jobs(reader, scope.project, page)
            latest = latest_runs(reader, [job.id for job in found.items])
            queue = abandoned_queue(reader)
        filters = {"search": text} if text else {}
        older = scope.href("/definitions", **filters, cursor=cursor_of(found.next)) if found.next else None
        first = scope.href("/definitions", **filters) if cursor else None
        rows = [_row(job, latest.get(job.id)) for job in found.items]
        view = DefinitionsView(rows, text, queue, scope.may_act, scope.why_not, first, older)
        layout = scope.layout(sources, "definitions", "Job definitions", is_live=True)
        return render(request, "definitions.html", layout, view)

    return router


def state_of(job: Job) -> str:
    """Return whether a job runs: enabled, paused or disabled."""
    if not job.enabled:
        return "disabled"
    return "enabled" if job.paused_at is None else "paused"


def _row(job: Job, last: Row[tuple[object, ...]] | None) -> DefinitionRow:
    settings = job.settings
    return DefinitionRow(
        id=job.id,
        name=settings.name,
        slug=settings.slug,
        endpoint=settings.endpoint_url,
        state=state_of(job),
        version=job.version,
        cron=settings.cron,
        zone=settings.timezone or "UTC",
        next_fire_at=timestamp_or_none(job.next_fire_at),
        last_status=None if last is None else last.status,
        last_at=None if last is None else timestamp_of(last.created_at),
        last_run=None if last is None else last.id,
    )
