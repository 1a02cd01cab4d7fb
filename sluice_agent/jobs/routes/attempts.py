"""``/v1/runs/{id}/attempts`` and ``/log``: how the attempts of a run went, and what its endpoint has logged."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from sluice_agent.jobs.routes.access import Sender
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import AttemptBody, AttemptEnvelope, LogBody, LogEnvelope, responses
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.runs import attempts
from sluice_agent.jobs.runs.runs import find_run
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore


def attempts_router(store: JobsStore) -> APIRouter:
    """Return the routes of what has happened in a run."""
    router = APIRouter(prefix="/runs/{run_id}", tags=["runs"], route_class=KeyFirst)

    @router.get("/attempts", responses=responses(200, list[AttemptBody] | AttemptEnvelope, 404))
    def list_attempts(
        run_id: Id, request: Request, caller: Sender, page: WantedPage, envelope: Envelope = False
    ) -> Response:
        """List the attempts of a run, the last one first."""
        with store.reading() as reader:
            found = attempts.list_attempts(reader, find_run(reader, run_id, caller.project).id, page)
        items = [attempts.attempt_view(row) for row in found.items]
        return page_answer(request, Page(items, found.next), envelope=envelope)

    @router.get("/log", responses=responses(200, list[LogBody] | LogEnvelope, 404))
    def list_log(
        run_id: Id, request: Request, caller: Sender, page: WantedPage, envelope: Envelope = False
    ) -> Response:
        """List what the endpoint has logged about its run, the last line first."""
        with store.reading() as reader:
            found = attempts.list_log(reader, find_run(reader, run_id, caller.project).id, page)
        return page_answer(
            request, Page([attempts.log_view(row) for row in found.items], found.next), envelope=envelope
        )

    return router
