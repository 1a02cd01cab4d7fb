"""``/v1/schedules``: the jobs that cron fires, and when; and jobs that are paused and resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from sluice_agent.jobs.cron import ZoneError
from sluice_agent.jobs.definitions.jobs import Change, Job, Lock, find_job
from sluice_agent.jobs.definitions.pause import pause_job, resume_job
from sluice_agent.jobs.definitions.schedule import firings, preview
from sluice_agent.jobs.definitions.views import job_view, time_text
from sluice_agent.jobs.routes.access import Caller, Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import (
    FoundScheduleBody,
    JobBody,
    PreviewBody,
    ScheduleBody,
    ScheduleEnvelope,
    responses,
)
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id, Project, project_of
from sluice_agent.jobs.runs.schedules import find_schedule, list_schedules
from sluice_agent.jobs.runs.views import schedule_view
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.errors import RefusedError

_NO_NUL = r"^[^\x00]*$"

Count = Annotated[int, Query(ge=1, le=100, description="How many firings.")]


def schedules_router(store: JobsStore) -> APIRouter:
    """Return the routes of schedules, and those that pause a job and resume it."""
    router = APIRouter(tags=["schedules"], route_class=KeyFirst)
    _add_reads(router, store)
    _add_pause(router, store)
    return router


def _add_reads(router: APIRouter, store: JobsStore) -> None:
    @router.get("/schedules", responses=responses(200, list[ScheduleBody] | ScheduleEnvelope))
    def list_all(
        request: Request,
        caller: Sender,
        page: WantedPage,
        project_id: Project = None,
        envelope: Envelope = False,
    ) -> Response:
        """List the schedules of a project, that of the newest job first."""
        project = project_of(caller, project_id)
        with store.reading() as reader:
            found = list_schedules(reader, project, page)
        return page_answer(request, Page([schedule_view(item) for item in found.items], found.next), envelope=envelope)

    @router.get("/schedules/preview", responses=responses(200, PreviewBody))
    def preview_firings(
        caller: Sender,  # noqa: ARG001 - the route needs a key
        cron: Annotated[str, Query(max_length=1000, pattern=_NO_NUL, description="Five fields.")],
        timezone: Annotated[str, Query(max_length=64, pattern=_NO_NUL, description="An IANA name.")] = "UTC",
        count: Count = 10,
    ) -> Response:
        """Show when a cron expression would fire next, before a job has it."""
        try:
            found = preview(cron, timezone, store.moment, count)
        except ZoneError as error:
            raise RefusedError(400, "The request is not valid.", {"timezone": str(error)}) from None
        except ValueError as error:
            raise RefusedError(400, "The expression is not valid.", {"cron": str(error)}) from None
        return answer(
            {
                "cron": cron,
                "timezone": timezone,
                "next_firings": [time_text(firing) for firing, _ in found],
                "local_firings": [local for _, local in found],
            }
        )

    @router.get("/jobs/{job_id}/schedule", responses=responses(200, FoundScheduleBody, 404))
    def get_schedule(job_id: Id, caller: Sender, count: Count = 10) -> Response:
        """Return the schedule of a job, and its next firings."""
        with store.reading() as reader:
            found = find_schedule(reader, job_id, caller.project)
        upcoming = firings(found.job.settings, store.moment, count) if found.job.enabled else []
        return answer({**schedule_view(found), "next_firings": [time_text(firing) for firing in upcoming]})


def _add_pause(router: APIRouter, store: JobsStore) -> None:
    def change(job_id: str, caller: Caller, act: Callable[[Connection, Job, Change], Job]) -> Response:
        with store.writing() as writer:
            found = find_job(writer, job_id, caller.project, Lock.EXCLUSIVE)
            changed = act(writer, found, Change(caller.name, store.moment))
        return answer(job_view(changed))

    @router.post("/jobs/{job_id}/pause", responses=responses(200, JobBody, 404))
    def pause(job_id: Id, caller: Sender) -> Response:
        """Let no run of a job start until it is resumed. Runs can be triggered, and keep their place; cron's firings
        are missed."""
        return change(job_id, caller, pause_job)

    @router.post("/jobs/{job_id}/resume", responses=responses(200, JobBody, 404))
    def resume(job_id: Id, caller: Sender) -> Response:
        """Let the runs of a job that was paused start again. A firing that it has just missed is made."""
        return change(job_id, caller, resume_job)
