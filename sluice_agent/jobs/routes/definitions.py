"""``/v1/jobs``: jobs, their versions, and batches of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Discriminator, Field, Tag, ValidationError

from sluice_agent.jobs.definitions import jobs, versions
from sluice_agent.jobs.definitions.jobs import Change, Job, Lock
from sluice_agent.jobs.definitions.requests import (
    MOST_JOBS,
    JobBatch,
    JobClone,
    JobCreate,
    JobIds,
    JobUpdate,
    changed,
)
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.views import job_view, masked, version_view
from sluice_agent.jobs.routes.access import Caller, Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import (
    BatchBody,
    ErrorBody,
    JobBody,
    JobEnvelope,
    Responses,
    UpdatedBody,
    VersionBody,
    VersionEnvelope,
    responses,
)
from sluice_agent.jobs.routes.endpoints import EndpointRules
from sluice_agent.jobs.routes.errors import detail
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id, Project, TagKey, TagValue, check_project, project_of, tag_of
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.errors import RefusedError

_NO_NUL = r"^[^\x00]*$"

NewJobs = Annotated[list[JobCreate], Field(min_length=1, max_length=MOST_JOBS)]
Batch = Annotated[
    Annotated[NewJobs, Tag("array")] | Annotated[JobBatch, Tag("object")],
    Discriminator(lambda body: "array" if isinstance(body, list) else "object"),
]


def definitions_router(store: JobsStore, rules: EndpointRules) -> APIRouter:
    """Return the routes of jobs and their versions. `rules` are those of their URLs."""
    router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=KeyFirst)
    _add_lists(router, store)
    _add_batches(router, store, rules)
    _add_single(router, store, rules)
    _add_versions(router, store)
    return router


def _add_lists(router: APIRouter, store: JobsStore) -> None:
    @router.get("", responses=responses(200, list[JobBody] | JobEnvelope))
    def list_jobs(
        request: Request,
        caller: Sender,
        page: WantedPage,
        project_id: Project = None,
        slug: Annotated[str | None, Query(max_length=128, pattern=_NO_NUL, description="Only with this slug.")] = None,
        tag_key: TagKey = None,
        tag_value: TagValue = None,
        envelope: Envelope = False,
    ) -> Response:
        """List the jobs of a project, the newest first."""
        project, tag = project_of(caller, project_id), tag_of(tag_key, tag_value)
        with store.reading() as reader:
            found = jobs.list_jobs(reader, project, page, slug=slug, tag=tag)
        return page_answer(request, Page([job_view(item) for item in found.items], found.next), envelope=envelope)


def _add_batches(router: APIRouter, store: JobsStore, rules: EndpointRules) -> None:
    failed: Responses = {400: {"model": ErrorBody | BatchBody}}

    @router.post("/batch", responses=responses(201, list[JobBody] | BatchBody, 409, has_body=True) | failed)
    def create_jobs(body: Annotated[Batch, Body()], caller: Sender) -> Response:
        """Make several jobs: of an array all or none, of `{"jobs": […]}` each that can be made."""
        if isinstance(body, JobBatch):
            return _create_each(store, rules, body.jobs, caller)
        with store.writing() as writer:
            moment = store.moment
            changes = (Change(caller.name, moment + index) for index in range(len(body)))  # so they keep their order
            made = [_create(writer, rules, job, caller, change) for job, change in zip(body, changes, strict=True)]
        return answer([job_view(job) for job in made], 201)

    def switch(body: JobIds, caller: Caller, *, enabled: bool) -> Response:
        with store.writing() as writer:
            change = Change(caller.name, store.moment)
            count = jobs.switch_jobs(writer, body.all, caller.project, change, enabled=enabled)
        return answer({"updated": count})

    @router.post("/batch-enable", responses=responses(200, UpdatedBody, has_body=True))
    def enable_jobs(body: JobIds, caller: Sender) -> Response:
        """Enable jobs. Ids without a job are skipped."""
        return switch(body, caller, enabled=True)

    @router.post("/batch-disable", responses=responses(200, UpdatedBody, has_body=True))
    def disable_jobs(body: JobIds, caller: Sender) -> Response:
        """Disable jobs. Ids without a job are skipped."""
        return switch(body, caller, enabled=False)


def _add_single(router: APIRouter, store: JobsStore, rules: EndpointRules) -> None:
    @router.post("", responses=responses(201, JobBody, 409, has_body=True))
    def create_job(body: JobCreate, caller: Sender) -> Response:
        """Make a job."""
        with store.writing() as writer:
            created = _create(writer, rules, body, caller, Change(caller.name, store.moment))
        return answer(job_view(created), 201)

    @router.get("/{job_id}", responses=responses(200, JobBody, 404))
    def get_job(job_id: Id, caller: Sender) -> Response:
        """Return a job."""
        with store.reading() as reader:
            return answer(job_view(jobs.find_job(reader, job_id, caller.project)))

    @router.patch("/{job_id}", responses=responses(200, JobBody, 404, 409, has_body=True))
    def update_job(
        job_id: Id,
        body: JobUpdate,
        caller: Sender,
        if_match: Annotated[str | None, Header(description="The version that is to be changed.")] = None,
    ) -> Response:
        """Change settings of a job, as a new version. A body that changes nothing makes none."""
        with store.writing() as writer:
            found = jobs.find_job(writer, job_id, caller.project, Lock.EXCLUSIVE)
            if if_match is not None and if_match.strip('"') not in (str(found.version), "*"):
                raise RefusedError(409, f"The job is at version {found.version}: read it again, then change it.")
            if body.webhook_secret == masked(found.settings.webhook_secret):
                body.webhook_secret = None  # as it was shown
            settings = _changed(found, body)
            rules.check(settings, found.project_id)
            enabled = found.enabled if body.enabled is None else body.enabled
            updated = jobs.update_job(writer, found, settings, Change(caller.name, store.moment), enabled=enabled)
        return answer(job_view(updated))

    @router.delete("/{job_id}", status_code=204, responses=responses(204, None, 404, 409))
    def delete_job(job_id: Id, caller: Sender) -> Response:
        """Delete a job with its runs, which must have ended."""
        with store.writing() as writer:
            jobs.delete_job(writer, jobs.find_job(writer, job_id, caller.project, Lock.EXCLUSIVE))
        return Response(status_code=204)

    @router.post("/{job_id}/clone", responses=responses(201, JobBody, 404, 409, has_body=True))
    def clone_job(job_id: Id, body: JobClone, caller: Sender) -> Response:
        """Make a job with the settings of another one."""
        with store.writing() as writer:
            source = jobs.find_job(writer, job_id, caller.project)
            settings = source.settings.model_copy(update={"name": body.name, "slug": body.slug})
            change = Change(caller.name, store.moment)
            enabled = body.enabled is not False
            created = jobs.create_job(writer, source.project_id, settings, change, enabled=enabled)
        return answer(job_view(created), 201)


def _add_versions(router: APIRouter, store: JobsStore) -> None:
    @router.get("/{job_id}/versions", responses=responses(200, list[VersionBody] | VersionEnvelope, 404))
    def list_versions(
        job_id: Id, request: Request, caller: Sender, page: WantedPage, envelope: Envelope = False
    ) -> Response:
        """List the versions of a job, the current one first."""
        with store.reading() as reader:
            found = versions.list_versions(reader, jobs.find_job(reader, job_id, caller.project).id, page)
        return page_answer(request, Page([version_view(item) for item in found.items], found.next), envelope=envelope)

    @router.get("/{job_id}/versions/{version_id}", responses=responses(200, VersionBody, 404))
    def get_version(job_id: Id, version_id: Id, caller: Sender) -> Response:
        """Return a version of a job."""
        with store.reading() as reader:
            job = jobs.find_job(reader, job_id, caller.project)
            return answer(version_view(versions.find_version(reader, job.id, version_id)))


def _create(writer: Any, rules: EndpointRules, body: JobCreate, caller: Caller, change: Change) -> Job:
    check_project(caller, body.project_id)
    settings = body.settings()
    rules.check(settings, body.project_id)
    return jobs.create_job(writer, body.project_id, settings, change, enabled=body.enabled)


def _create_each(store: JobsStore, rules: EndpointRules, bodies: list[dict[str, Any]], caller: Caller) -> Response:
    """Make each job that can be made, and answer with them and with the errors of the others."""
    created, errors = [], []
    with store.writing() as writer:
        moment = store.moment
        for index, body in enumerate(bodies):
            change = Change(caller.name, moment + index)  # so they keep their order
            try:
                with writer.begin_nested():
                    job = _create(writer, rules, JobCreate.model_validate(body), caller, change)
                created.append(job_view(job))
            except ValidationError as error:
                message = "; ".join(detail(fault["loc"], fault["msg"]) for fault in error.errors())
                errors.append({"index": index, "message": message})
            except RefusedError as refusal:
                details = [detail((name,), text) for name, text in (refusal.details or {}).items()]
                errors.append({"index": index, "message": "; ".join(details) or refusal.message})
    return answer({"created": created, **({"errors": errors} if errors else {})}, 201 if created else 400)


def _changed(found: Job, body: JobUpdate) -> JobSettings:
    try:
        return changed(found.settings, body)
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None
