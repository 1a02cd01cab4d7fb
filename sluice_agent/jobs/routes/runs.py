"""``/v1/runs``: runs of all jobs of a project, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.jobs import Change, Job, Lock, find_job
from sluice_agent.jobs.routes.access import Caller, Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import (
    FoundRunBody,
    ReplayedBody,
    RunBody,
    RunEnvelope,
    StandingBody,
    responses,
)
from sluice_agent.jobs.routes.new_id import new_id_of
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id, OfJob, Project, TagKey, TagValue, project_of, tag_of
from sluice_agent.jobs.runs import runs
from sluice_agent.jobs.runs.changes import dependent_of
from sluice_agent.jobs.runs.dependencies import standings
from sluice_agent.jobs.runs.requests import LONGEST_TTL, DebugRequest, ReplayRequest, Reschedule, RunIds
from sluice_agent.jobs.runs.views import obstacle_view, progress_view, run_view, standing_view
from sluice_agent.jobs.runs.waiting import obstacle_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.task_events.notes import note_of
from sluice_agent.server.errors import RefusedError

_NO_NUL = r"^[^\x00]*$"
_SECOND = 1_000_000  # microseconds

OfBatch = Annotated[str | None, Query(max_length=64, pattern=_NO_NUL, description="Only runs of this bulk trigger.")]


def runs_router(store: JobsStore) -> APIRouter:
    """Return the routes of runs."""
    router = APIRouter(prefix="/runs", tags=["runs"], route_class=KeyFirst)
    _add_reads(router, store)
    _add_changes(router, store)
    _add_replays(router, store)
    return router


def _add_reads(router: APIRouter, store: JobsStore) -> None:
    @router.get("", responses=responses(200, list[RunBody] | RunEnvelope))
    def list_runs(
        request: Request,
        caller: Sender,
        page: WantedPage,
        project_id: Project = None,
        status: Annotated[Status | None, Query(description="Only in this state.")] = None,
        job_id: OfJob = None,
        batch_id: OfBatch = None,
        tag_key: TagKey = None,
        tag_value: TagValue = None,
        envelope: Envelope = False,
    ) -> Response:
        """List the runs of a project, the newest first."""
        project, tag = project_of(caller, project_id), tag_of(tag_key, tag_value)
        with store.reading() as reader:
            found = runs.list_runs(reader, project, page, status=status, job_id=job_id, batch_id=batch_id, tag=tag)
        return page_answer(request, Page([run_view(row) for row in found.items], found.next), envelope=envelope)

    @router.get("/{run_id}", responses=responses(200, FoundRunBody, 404))
    def get_run(run_id: Id, caller: Sender) -> Response:
        """Return a run."""
        with store.reading() as reader:
            row = runs.find_run(reader, run_id, caller.project)
            obstacle = obstacle_of(reader, row, store.moment)
        note = note_of(row) or obstacle.sentence
        progress = {"progress": progress_view(row.progress)} if row.progress else {}
        return answer(run_view(row) | obstacle_view(obstacle) | progress | ({} if note is None else {"note": note}))

    @router.get("/{run_id}/dependency-status", responses=responses(200, list[StandingBody], 404))
    def get_dependency_status(run_id: Id, caller: Sender) -> Response:
        """List what the run's job depends on, and for each whether it is fulfilled, and by which run."""
        with store.reading() as reader:
            row = runs.find_run(reader, run_id, caller.project)
            return answer([standing_view(standing) for standing in standings(reader, dependent_of(row))])


def _add_changes(router: APIRouter, store: JobsStore) -> None:
    @router.delete("/{run_id}", responses=responses(200, RunBody, 404, 409))
    def cancel_run(run_id: Id, caller: Sender) -> Response:
        """Cancel a run that has not ended, with the runs that it has started itself."""
        return _change(store, run_id, caller, runs.cancel_run)

    @router.post("/{run_id}/reschedule", responses=responses(200, RunBody, 404, 409, has_body=True))
    def reschedule_run(run_id: Id, body: Reschedule, caller: Sender) -> Response:
        """Give a delayed run another time. One that has passed lets it begin at once."""

        def reschedule(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
            if body.scheduled_at > now + LONGEST_TTL * _SECOND:
                raise RefusedError(400, "The request is not valid.", {"scheduled_at": "is more than 30 days ahead"})
            return runs.reschedule_run(writer, row, body.scheduled_at, now)

        return _change(store, run_id, caller, reschedule)

    @router.post("/{run_id}/debug", responses=responses(200, RunBody, 404, has_body=True))
    def debug_run(run_id: Id, body: DebugRequest, caller: Sender) -> Response:
        """Keep the heads of requests and answers with the run's next attempts, also after a replay. Secrets are
        replaced."""

        def debug(writer: Connection, row: Row[Any], _: int) -> Row[Any]:
            return runs.set_debug_mode(writer, find_job(writer, row.job_id, None), row, is_on=body.debug_mode)

        return _change(store, run_id, caller, debug)

    @router.delete("/{run_id}/idempotency-key", status_code=204, responses=responses(204, None, 404))
    def free_key(run_id: Id, caller: Sender) -> Response:
        """Let the run's idempotency key be used for another run."""
        with store.writing() as writer:
            runs.free_key(writer, runs.find_run(writer, run_id, caller.project, locks=True))
        return Response(status_code=204)


def _add_replays(router: APIRouter, store: JobsStore) -> None:
    @router.post("/{run_id}/replay", status_code=201, responses=responses(201, RunBody, 404, 409, has_body=True))
    def replay_run(run_id: Id, body: ReplayRequest, request: Request, caller: Sender) -> Response:
        """Make a new run with the payload of one that has failed, or with another one, by the job's settings of now."""

        def replay(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
            job = find_job(writer, row.job_id, caller.project, Lock.SHARED)
            return runs.replay_run(writer, job, row, Change(caller.name, now), body.payload, new_id_of(request))

        return _change(store, run_id, caller, replay)

    @router.post("/{run_id}/dlq-replay", responses=responses(200, RunBody, 404, 409))
    def replay_dead_letter(run_id: Id, caller: Sender) -> Response:
        """Let a dead letter begin again, as the same run, with its first attempt."""

        def replay(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
            job = find_job(writer, row.job_id, caller.project)
            return runs.replay_dead_letter(writer, job, row, now)

        return _change(store, run_id, caller, replay)

    @router.post("/dlq-replay", responses=responses(200, ReplayedBody, has_body=True))
    def replay_dead_letters(body: RunIds, caller: Sender) -> Response:
        """Let several dead letters begin again, each that can, and name those that can't with the reason."""
        refused: list[dict[str, str]] = []
        jobs: dict[str, Job] = {}
        with store.writing() as writer:
            for run_id in dict.fromkeys(body.ids):
                try:
                    row = runs.find_run(writer, run_id, caller.project, locks=True)
                    job = jobs[row.job_id] = jobs.get(row.job_id) or find_job(writer, row.job_id, caller.project)
                    runs.replay_dead_letter(writer, job, row, store.moment)
                except RefusedError as refusal:
                    refused.append({"id": run_id, "reason": refusal.message})
        count = len(set(body.ids)) - len(refused)
        return answer({"replayed": count, **({"refused": refused} if refused else {})})


def _change(
    store: JobsStore, run_id: str, caller: Caller, act: Callable[[Connection, Row[Any], int], Row[Any]]
) -> Response:
    """Answer with the run that `act` returns for a run whose row is locked."""
    with store.writing() as writer:
        row = runs.find_run(writer, run_id, caller.project, locks=True)
        changed = act(writer, row, store.moment)
    return answer(run_view(changed), 200 if changed.id == run_id else 201)
