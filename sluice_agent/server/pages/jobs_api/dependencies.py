"""``/definitions/{id}/dependencies``: the jobs that a job waits for, and those that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.definitions.dependencies import DEFAULT_CONDITION, Dependency, dependencies_of, dependents_of
from sluice_agent.jobs.definitions.jobs import Job, list_jobs
from sluice_agent.jobs.runs.search import settings_of
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.api import part_of_path
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, WantedScope, scope_of_job
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import ConnectionId

_SUGGESTED = 200  # jobs that the form offers; others can be typed
_TAKEN = 409

CONDITIONS = (("completed", "have completed"), ("failed", "have failed"), ("any", "have ended, however"))
"""What the last run of another job must have done, with its words."""

_WORDS = dict(CONDITIONS)


class DependencyRow(NamedTuple):
    """A dependency: the other job, and what its last run must have done."""

    id: str
    job_id: str
    name: str
    condition: str


class DependenciesView(NamedTuple):
    """The page. `slug` and `condition` are what was typed; `jobs` are slugs and names to choose from."""

    job_id: str
    name: str
    waits_for: Sequence[DependencyRow]
    awaited_by: Sequence[DependencyRow]
    jobs: Sequence[tuple[str, str]]
    conditions: Sequence[tuple[str, str]]
    slug: str
    condition: str
    errors: Sequence[str]
    may_act: bool
    why_not: str | None


def waits_for(reader: Connection, job_id: str) -> list[DependencyRow]:
    """Return what a job waits for."""
    return _rows(reader, [(item, item.depends_on_job_id) for item in dependencies_of(reader, job_id)])


def awaited_by(reader: Connection, job_id: str) -> list[DependencyRow]:
    """Return the jobs that wait for a job."""
    return _rows(reader, [(item, item.job_id) for item in dependents_of(reader, job_id)])


def _rows(reader: Connection, found: Sequence[tuple[Dependency, str]]) -> list[DependencyRow]:
    settings = settings_of(reader, [other for _, other in found])
    return [DependencyRow(item.id, other, settings[other].name, _WORDS[item.condition]) for item, other in found]


def dependencies_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the page, and of its forms."""
    router = APIRouter()

    @router.get("/definitions/{job_id}/dependencies")
    def dependencies(request: Request, wanted: WantedScope, job_id: str) -> HTMLResponse:
        return _page(sources, request, wanted, job_id)

    @router.post("/definitions/{job_id}/dependencies")
    async def add(request: Request, form: OperatorForm, job_id: str) -> Response:
        return await _add(sources, request, form, job_id)

    @router.get("/definitions/{job_id}/dependencies/{dependency_id}/remove")
    def ask_to_remove(
        request: Request, principal: PageOperator, job_id: str, dependency_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, Wanted(principal, None, connection_id), job_id)
            row = next((item for item in waits_for(reader, job.id) if item.id == dependency_id), None)
        if row is None:
            raise RefusedError(404, "The job does not depend on this job any more.")
        path = f"/definitions/{job.id}/dependencies"
        question = Question(
            f"Let {job.settings.name} wait no longer for {row.name}",
            "Runs that wait for nothing else begin at once.",
            f"{path}/{row.id}/remove",
            "Remove the dependency",
            scope.href(path),
        )
        return ask(request, scope.layout(sources, "definitions", question.title), question)

    @router.post("/definitions/{job_id}/dependencies/{dependency_id}/remove")
    async def remove(request: Request, _: OperatorForm, job_id: str, dependency_id: str) -> Response:
        path = f"{part_of_path(job_id)}/dependencies"
        answer = await sources.api.send(request, "DELETE", f"/jobs/{path}/{part_of_path(dependency_id)}")
        if answer.status != 404:  # another form may have done it
            answer.raise_refusal()
        return see_other(f"/definitions/{path}")

    return router


async def _add(sources: JobsSources, request: Request, form: SentForm, job_id: str) -> Response:
    wanted = Wanted(form.principal)
    slug, condition = form.value("slug").strip(), form.value("condition", DEFAULT_CONDITION)
    scope, job, target = await run_in_threadpool(_found, sources, wanted, job_id, slug)
    if target is None:
        errors = [f"The project has no job with the slug {slug}." if slug else "Which job? Type or choose its slug."]
    else:
        body = {"depends_on_job_id": target.id, "condition": condition}
        answer = await sources.api.send(request, "POST", f"/jobs/{job.id}/dependencies", body)
        if not answer.is_refusal or answer.status == _TAKEN:
            return see_other(scope.href(f"/definitions/{job.id}/dependencies"))
        errors = [f"It can't wait for {slug}: {'; '.join(answer.reasons)}."]
    return await run_in_threadpool(_page, sources, request, wanted, job.id, slug, condition, errors)


def _found(sources: JobsSources, wanted: Wanted, job_id: str, slug: str) -> tuple[JobsScope, Job, Job | None]:
    """Return a job, and the job of its project that has this slug."""
    with sources.store.reading() as reader:
        scope, job = scope_of_job(sources, reader, wanted, job_id)
        found = list_jobs(reader, job.project_id, PageRequest(1), slug=slug.replace("\0", "")).items
    return scope, job, found[0] if found else None


def _page(
    sources: JobsSources,
    request: Request,
    wanted: Wanted,
    job_id: str,
    slug: str = "",
    condition: str = DEFAULT_CONDITION,
    errors: Sequence[str] = (),
) -> HTMLResponse:
    with sources.store.reading() as reader:
        scope, job = scope_of_job(sources, reader, wanted, job_id)
        view = DependenciesView(
            job_id=job.id,
            name=job.settings.name,
            waits_for=waits_for(reader, job.id),
            awaited_by=awaited_by(reader, job.id),
            jobs=_jobs(reader, job) if scope.may_act else [],
            conditions=CONDITIONS,
            slug=slug,
            condition=condition,
            errors=errors,
            may_act=scope.may_act,
            why_not=scope.why_not,
        )
    layout = scope.layout(sources, "definitions", f"Dependencies of {view.name}")
    return render(request, "dependencies.html", layout, view, 400 if errors else 200, NO_STORE)


def _jobs(reader: Connection, of: Job) -> list[tuple[str, str]]:
    found = list_jobs(reader, of.project_id, PageRequest(_SUGGESTED)).items
    others = [(item.settings.slug, item.settings.name) for item in found if item.id != of.id]
    return sorted(others, key=lambda pair: pair[1].lower())
