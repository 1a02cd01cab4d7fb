"""``/definitions/{id}/clone``: a job with the settings of another one, under a name and a slug of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.definitions.jobs import Job, list_jobs
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, see_other
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, scope_of_job
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import ConnectionId

_TAKEN = 409
_TRIED = 100  # numbers for a slug that is free


class CloneView(NamedTuple):
    """The form. `body` is what the API takes, as it was typed."""

    source: str
    action: str
    back: str
    has_cron: bool
    body: Mapping[str, Any]
    errors: Sequence[str]


def definition_clone_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the form."""
    router = APIRouter()

    @router.get("/definitions/{job_id}/clone")
    def new(request: Request, principal: PageOperator, job_id: str, connection_id: ConnectionId = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, Wanted(principal, None, connection_id), job_id)
            body = _proposed(reader, job)
        return _page(sources, request, scope, job, body)

    @router.post("/definitions/{job_id}/clone")
    async def clone(request: Request, form: OperatorForm, job_id: str) -> Response:
        body = {name: form.value(name).strip() for name in ("name", "slug")}
        scope, job, same = await run_in_threadpool(_found, sources, Wanted(form.principal), job_id, body)
        enabled = form.value("enabled", "") == "yes"
        answer = await sources.api.send(request, "POST", f"/jobs/{job.id}/clone", {**body, "enabled": enabled})
        if answer.status == _TAKEN and same is not None:  # the form was sent twice
            return see_other(scope.href(f"/definitions/{same.id}"))
        if not answer.is_refusal:
            return see_other(scope.href(f"/definitions/{answer.body['id']}"))
        errors = [answer.message, *answer.details]
        return await run_in_threadpool(_page, sources, request, scope, job, {**body, "enabled": enabled}, errors)

    return router


def _proposed(reader: Connection, job: Job) -> dict[str, Any]:
    """Return a name and a slug with the first number that is free."""
    slugs = (f"{job.settings.slug[:120]}-{number}" for number in range(2, _TRIED))
    slug = next((candidate for candidate in slugs if _with_slug(reader, job.project_id, candidate) is None), "")
    return {"name": f"{job.settings.name} {slug.rpartition('-')[2]}".rstrip(), "slug": slug, "enabled": False}


def _found(
    sources: JobsSources, wanted: Wanted, job_id: str, body: Mapping[str, str]
) -> tuple[JobsScope, Job, Job | None]:
    """Return a job, and the one that this form has made of it already, if there is one."""
    with sources.store.reading() as reader:
        scope, job = scope_of_job(sources, reader, wanted, job_id)
        other = _with_slug(reader, job.project_id, body["slug"])
    is_same = other is not None and other.settings == job.settings.model_copy(update=dict(body))
    return scope, job, other if is_same else None


def _with_slug(reader: Connection, project: str, slug: str) -> Job | None:
    found = list_jobs(reader, project, PageRequest(1), slug=slug.replace("\0", "")).items
    return found[0] if found else None


def _page(
    sources: JobsSources,
    request: Request,
    scope: JobsScope,
    job: Job,
    body: Mapping[str, Any],
    errors: Sequence[str] = (),
) -> HTMLResponse:
    path = f"/definitions/{job.id}"
    view = CloneView(job.settings.name, f"{path}/clone", scope.href(path), bool(job.settings.cron), body, errors)
    layout = scope.layout(sources, "definitions", f"Clone {view.source}")
    return render(request, "definition_clone.html", layout, view, 400 if errors else 200, NO_STORE)
