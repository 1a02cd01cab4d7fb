"""``/definitions/new`` and ``/definitions/{id}/edit``: the settings of a job as a form.

A change is shown before it is made, with the version that it makes. Whatever was typed comes back with an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.requests import JobCreate, JobUpdate, changed
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.json_text import dumps, parse
from sluice_agent.jobs.routes.errors import detail
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.differences import Difference, differences
from sluice_agent.server.pages.jobs_api.scope import (
    JobsScope,
    JobsSources,
    Wanted,
    jobs_scope_of,
    scope_of_job,
)
from sluice_agent.server.pages.jobs_api.settings_form import (
    Group,
    changes_in,
    default_texts,
    groups_of,
    labelled,
    texts_of,
)
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import ConnectionId

_DELETED = "The job was deleted meanwhile. This form has what you typed, and defines a new job."


class EditView(NamedTuple):
    """The form. `version` is that which it changes, None for a new job; `project` is that of a new job."""

    title: str
    action: str
    back: str
    groups: Sequence[Group]
    errors: Sequence[str]
    version: int | None
    project: str
    is_project_fixed: bool


class ReviewView(NamedTuple):
    """What a change would do, before it is made. `changes` are the settings that differ, as JSON."""

    name: str
    action: str
    back: str
    version: int
    differences: Sequence[Difference]
    changes: str
    warning: str | None


def definition_edit_router(sources: JobsSources) -> APIRouter:
    """Return the routes of both forms."""
    router = APIRouter()
    _add_create(router, sources)
    _add_edit(router, sources)
    return router


def _add_create(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/definitions/new")
    def new(
        request: Request, principal: PageOperator, project: str = "", connection_id: ConnectionId = None
    ) -> HTMLResponse:
        scope = _scope(sources, Wanted(principal, None, connection_id))
        return _create_page(sources, request, scope, default_texts(), project[:255])

    @router.post("/definitions/new")
    async def create(request: Request, form: OperatorForm) -> Response:
        scope = await run_in_threadpool(_scope, sources, Wanted(form.principal))
        texts = _texts(form)
        project = form.value("project_id", scope.own_project or "").strip()
        changes, wrong = changes_in(texts, default_texts())
        if not wrong:
            body = {**changes, "project_id": project}
            answer = await sources.api.send(request, "POST", "/jobs", body)
            if not answer.is_refusal:
                return see_other(f"/definitions/{answer.body['id']}")
            wrong = [*(answer.details or [answer.message])]
        else:
            wrong += _further(JobCreate, {**changes, "project_id": project}, wrong)
        return await run_in_threadpool(_create_page, sources, request, scope, texts, project, wrong)


def _add_edit(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/definitions/{job_id}/edit")
    def edit(
        request: Request, principal: PageOperator, job_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        scope, job = _found(sources, Wanted(principal, None, connection_id), job_id)
        return _edit_page(sources, request, scope, job, texts_of(job.settings), job.version)

    @router.post("/definitions/{job_id}/edit")
    async def review(request: Request, form: OperatorForm, job_id: str) -> Response:
        return await run_in_threadpool(_review, sources, request, form, job_id)

    @router.post("/definitions/{job_id}/save")
    async def save(request: Request, form: OperatorForm, job_id: str) -> Response:
        scope, job = await run_in_threadpool(_found, sources, Wanted(form.principal), job_id)
        changes = _changes_of(form)
        version = _version_of(form)
        if _is_made(job, changes):
            return see_other(scope.href(f"/definitions/{job.id}"))
        headers = {"If-Match": str(version)}
        answer = await sources.api.send(request, "PATCH", f"/jobs/{job.id}", changes, headers)
        if not answer.is_refusal:
            return see_other(scope.href(f"/definitions/{job.id}"))
        if answer.status == HTTPStatus.CONFLICT:
            return await run_in_threadpool(_show_change, sources, request, form, job_id)
        texts = {**texts_of(job.settings), **_texts_of_changes(job, changes)}
        wrong = [*(answer.details or [answer.message])]
        return await run_in_threadpool(_edit_page, sources, request, scope, job, texts, job.version, wrong)


def _review(sources: JobsSources, request: Request, form: SentForm, job_id: str) -> HTMLResponse:
    """Return the page that shows what a change would do, or the form again if it can't be made; that of a new job if
    the job is deleted."""
    try:
        scope, job = _found(sources, Wanted(form.principal), job_id)
    except RefusedError:
        if form.values("changes"):
            raise
        texts = {**_texts(form), "webhook_secret": ""}  # which the form did not have
        return _create_page(sources, request, _scope(sources, Wanted(form.principal)), texts, errors=[_DELETED])
    version = _version_of(form)
    if form.values("changes"):  # back from the page that shows the change
        texts = {**texts_of(job.settings), **_texts_of_changes(job, _changes_of(form))}
        return _edit_page(sources, request, scope, job, texts, version)
    texts = _texts(form)
    changes, wrong = changes_in(texts, texts_of(job.settings))
    settings = job.settings
    if wrong:
        wrong += _further(JobUpdate, changes, wrong)
    else:
        settings, wrong = _proposed(job, changes)
    if not wrong and settings == job.settings:
        wrong = ["Nothing is changed."]
    if wrong:
        return _edit_page(sources, request, scope, job, texts, version, wrong)
    return _review_page(sources, request, scope, job, settings, changes, version)


def _show_change(sources: JobsSources, request: Request, form: SentForm, job_id: str) -> HTMLResponse:
    """Return the page again whose change was refused, as another form has made a version meanwhile."""
    scope, job = _found(sources, Wanted(form.principal), job_id)
    changes, version = _changes_of(form), _version_of(form)
    settings, wrong = _proposed(job, changes)
    if wrong:
        texts = {**texts_of(job.settings), **_texts_of_changes(job, changes)}
        return _edit_page(sources, request, scope, job, texts, job.version, wrong)
    return _review_page(sources, request, scope, job, settings, changes, version, HTTPStatus.CONFLICT)


def _review_page(
    sources: JobsSources,
    request: Request,
    scope: JobsScope,
    job: Job,
    settings: JobSettings,
    changes: Mapping[str, Any],
    version: int,
    status: int = HTTPStatus.OK,
) -> HTMLResponse:
    """Return the page that shows what `changes`, made for `version`, would do."""
    warning = None
    if version != job.version:
        warning = f"The job has got version {job.version} since the form was opened. This is what differs from that."
    path = f"/definitions/{job.id}"
    view = ReviewView(
        name=job.settings.name,
        action=path,
        back=scope.href(path),
        version=job.version,
        differences=differences(job.settings, settings),
        changes=dumps(changes),
        warning=warning,
    )
    layout = scope.layout(sources, "definitions", f"Change {view.name}")
    return render(request, "definition_review.html", layout, view, status, NO_STORE)


def _proposed(job: Job, changes: Mapping[str, Any]) -> tuple[JobSettings, list[str]]:
    """Return the settings that a job would have, and what is wrong with them."""
    try:
        return changed(job.settings, JobUpdate.model_validate(changes)), []
    except ValidationError as error:
        return job.settings, [detail(fault["loc"], fault["msg"]) for fault in error.errors()]


def _further(model: type[BaseModel], given: Mapping[str, Any], wrong: Sequence[str]) -> list[str]:
    """Return what else is wrong with settings, beside those that `wrong` is about, which are not among them."""
    known = {line.partition(": ")[0] for line in wrong}
    try:
        model.model_validate(given)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if not fault["loc"] or fault["loc"][0] not in known]
        return [detail(fault["loc"], fault["msg"]) for fault in faults]
    return []


def _is_made(job: Job, changes: Mapping[str, Any]) -> bool:
    """Return whether a job has these settings already: the form was sent twice."""
    return bool(changes) and _proposed(job, changes) == (job.settings, [])


def _texts_of_changes(job: Job, changes: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of fields for settings that may not be valid together."""
    values = {name: value for name, value in changes.items() if name in JobSettings.model_fields}
    try:
        return {name: text for name, text in texts_of(job.settings.model_copy(update=values)).items() if name in values}
    except (TypeError, ValueError):
        raise RefusedError(400, "The form has no settings: open its page again.") from None


def _texts(form: SentForm) -> dict[str, str]:
    return {name: form.value(name, "") for name in JobSettings.model_fields}


def _changes_of(form: SentForm) -> dict[str, Any]:
    try:
        changes = parse(form.value("changes").encode())
    except ValueError:
        changes = None
    if not isinstance(changes, dict):
        raise RefusedError(400, "The form has no settings: open its page again.")
    return changes


def _version_of(form: SentForm) -> int:
    text = form.value("version")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RefusedError(400, "The field version of the form must be a number: open its page again.")
    return int(text)


def _scope(sources: JobsSources, wanted: Wanted) -> JobsScope:
    with sources.store.reading() as reader:
        return jobs_scope_of(sources, reader, wanted)


def _found(sources: JobsSources, wanted: Wanted, job_id: str) -> tuple[JobsScope, Job]:
    with sources.store.reading() as reader:
        return scope_of_job(sources, reader, wanted, job_id)


def _create_page(
    sources: JobsSources,
    request: Request,
    scope: JobsScope,
    texts: Mapping[str, str],
    project: str = "",
    errors: Sequence[str] = (),
) -> HTMLResponse:
    own = scope.own_project
    connection = scope.connections.connection
    usual = scope.project or (connection.name or connection.id if connection is not None else "")
    view = EditView(
        title="Define a job",
        action="/definitions/new",
        back=scope.href("/definitions"),
        groups=groups_of(texts, errors),
        errors=[labelled(error) for error in errors],
        version=None,
        project=own or project or usual,
        is_project_fixed=own is not None,
    )
    layout = scope.layout(sources, "definitions", view.title)
    return render(request, "definition_edit.html", layout, view, 400 if errors else 200, NO_STORE)


def _edit_page(
    sources: JobsSources,
    request: Request,
    scope: JobsScope,
    job: Job,
    texts: Mapping[str, str],
    version: int,
    errors: Sequence[str] = (),
) -> HTMLResponse:
    path = f"/definitions/{job.id}"
    view = EditView(
        title=f"Edit {job.settings.name}",
        action=f"{path}/edit",
        back=scope.href(path),
        groups=groups_of(texts, errors),
        errors=[labelled(error) for error in errors],
        version=version,
        project=job.project_id,
        is_project_fixed=True,
    )
    layout = scope.layout(sources, "definitions", view.title)
    return render(request, "definition_edit.html", layout, view, 400 if errors else 200, NO_STORE)
