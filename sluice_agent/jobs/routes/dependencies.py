"""``/v1/jobs/{id}/dependencies``: which jobs a job waits for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sluice_agent.jobs.definitions import dependencies
from sluice_agent.jobs.definitions.jobs import Lock, find_job
from sluice_agent.jobs.definitions.requests import DependencyCreate
from sluice_agent.jobs.definitions.views import dependency_view
from sluice_agent.jobs.routes.access import Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import DependencyBody, DependencyEnvelope, responses
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore


def dependencies_router(store: JobsStore) -> APIRouter:
    """Return the routes of dependencies."""
    router = APIRouter(prefix="/jobs/{job_id}/dependencies", tags=["dependencies"], route_class=KeyFirst)

    @router.get("", responses=responses(200, list[DependencyBody] | DependencyEnvelope, 404))
    def list_dependencies(
        job_id: Id, request: Request, caller: Sender, page: WantedPage, envelope: Envelope = False
    ) -> Response:
        """List what a job depends on, the newest first."""
        with store.reading() as reader:
            job = find_job(reader, job_id, caller.project)
            found = dependencies.list_dependencies(reader, job.id, page)
        shown = Page([dependency_view(item) for item in found.items], found.next)
        return page_answer(request, shown, envelope=envelope)

    @router.post("", responses=responses(201, DependencyBody, 404, 409, has_body=True))
    def create_dependency(job_id: Id, body: DependencyCreate, caller: Sender) -> Response:
        """Let runs of a job wait for those of another one."""
        condition = body.condition or dependencies.DEFAULT_CONDITION
        with store.writing() as writer:
            job = find_job(writer, job_id, caller.project, Lock.SHARED)
            target = body.depends_on_job_id
            created = dependencies.create_dependency(writer, job, target, condition, store.moment)
        return answer(dependency_view(created), 201)

    @router.delete("/{dependency_id}", status_code=204, responses=responses(204, None, 404))
    def delete_dependency(job_id: Id, dependency_id: Id, caller: Sender) -> Response:
        """Let runs of a job wait no longer for those of another one."""
        with store.writing() as writer:
            dependencies.delete_dependency(writer, find_job(writer, job_id, caller.project).id, dependency_id)
        return Response(status_code=204)

    return router
