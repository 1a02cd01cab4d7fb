"""``/definitions/{id}/versions``: the versions of a job's settings, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from sluice_agent.jobs.definitions.versions import find_version, list_versions, version_at
from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.store.page import PageRequest, Position
from sluice_agent.server.pages.jobs_api.definition import VersionRow, version_rows
from sluice_agent.server.pages.jobs_api.differences import Difference, differences
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsSources, WantedScope, scope_of_job
from sluice_agent.server.pages.jobs_api.settings_text import sentences
from sluice_agent.server.pages.render import render
from sluice_agent.server.timestamps import timestamp_of

_LIMIT = 50

VersionId = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]


class VersionsView(NamedTuple):
    """The list of versions, the newest first."""

    job_id: str
    name: str
    rows: Sequence[VersionRow]
    first: str | None
    older: str | None


class VersionView(NamedTuple):
    """A version: its settings in words, and what differs from another one, None if there is none before it."""

    job_id: str
    name: str
    number: int
    is_current: bool
    at: str
    sentences: Sequence[tuple[str, str]]
    against: int | None
    against_id: str
    differences: Sequence[Difference]
    others: Sequence[tuple[str, int]]
    """Ids and numbers of versions to compare with."""


def versions_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the list and of one version."""
    router = APIRouter()

    @router.get("/definitions/{job_id}/versions")
    def versions(request: Request, wanted: WantedScope, job_id: str, cursor: Cursor = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, wanted, job_id)
            page = PageRequest(_LIMIT + 1, position_of(cursor) if cursor else None)
            found = list_versions(reader, job.id, page).items
        path = f"/definitions/{job.id}/versions"
        last = found[_LIMIT - 1] if len(found) > _LIMIT else None
        older = None if last is None else scope.href(path, cursor=cursor_of(Position(last.version, last.id)))
        rows = version_rows(found)[:_LIMIT]
        view = VersionsView(job.id, job.settings.name, rows, scope.href(path) if cursor else None, older)
        layout = scope.layout(sources, "definitions", f"Versions of {view.name}")
        return render(request, "versions.html", layout, view)

    @router.get("/definitions/{job_id}/versions/{version_id}")
    def version(
        request: Request, wanted: WantedScope, job_id: str, version_id: str, against: VersionId = ""
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, wanted, job_id)
            found = find_version(reader, job.id, version_id.replace("\0", ""))
            before = version_at(reader, job.id, found.version - 1)
            other = find_version(reader, job.id, against) if against else before
            others = [(item.id, item.version) for item in list_versions(reader, job.id, PageRequest(_LIMIT)).items]
        view = VersionView(
            job_id=job.id,
            name=job.settings.name,
            number=found.version,
            is_current=found.version == job.version,
            at=timestamp_of(found.created_at),
            sentences=sentences(found.settings),
            against=None if other is None else other.version,
            against_id="" if other is None else other.id,
            differences=[] if other is None else differences(other.settings, found.settings),
            others=[pair for pair in others if pair[0] != found.id],
        )
        layout = scope.layout(sources, "definitions", f"Version {view.number} of {view.name}")
        return render(request, "version.html", layout, view)

    return router
