"""``/v1/replays``: all dead letters that match a filter begin again, and how far that is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import IntegrityError

from sluice_agent.jobs.definitions.jobs import Change
from sluice_agent.jobs.routes.access import Caller, Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import ReplayBody, ReplayEnvelope, responses
from sluice_agent.jobs.routes.new_id import new_id_of
from sluice_agent.jobs.routes.pages import Envelope, WantedPage, page_answer
from sluice_agent.jobs.routes.parameters import Id, Project, project_of
from sluice_agent.jobs.runs import replays
from sluice_agent.jobs.runs.requests import DeadLetters
from sluice_agent.jobs.runs.search import RunFilter
from sluice_agent.jobs.runs.views import replay_view
from sluice_agent.jobs.store.page import Page
from sluice_agent.jobs.store.store import JobsStore


def replays_router(store: JobsStore) -> APIRouter:
    """Return the routes of replays."""
    router = APIRouter(prefix="/replays", tags=["runs"], route_class=KeyFirst)

    @router.post("", status_code=202, responses=responses(202, ReplayBody, has_body=True))
    def replay_all(body: DeadLetters, request: Request, caller: Sender) -> Response:
        """Let all dead letters begin again that match, each as the same run with its first attempt. The server goes
        through them, some at a time, also after a restart; one that fails again meanwhile stays."""
        wanted = _filter(body, caller)
        new_id = new_id_of(request)
        try:
            begun = _begin(store, wanted, caller, new_id)
        except IntegrityError:
            begun = _begin(store, wanted, caller, new_id)  # another server has just made it
        return answer(replay_view(begun), 202)

    @router.get("", responses=responses(200, list[ReplayBody] | ReplayEnvelope))
    def list_replays(
        request: Request, caller: Sender, page: WantedPage, project_id: Project = None, envelope: Envelope = False
    ) -> Response:
        """List the replays of a project, the newest first. They are kept for 30 days after their end."""
        project = project_of(caller, project_id)
        with store.reading() as reader:
            found = replays.list_replays(reader, project, page)
        return page_answer(request, Page([replay_view(item) for item in found.items], found.next), envelope=envelope)

    @router.get("/{replay_id}", responses=responses(200, ReplayBody, 404))
    def get_replay(replay_id: Id, caller: Sender) -> Response:
        """Return a replay: how far it is, and what was not replayed."""
        with store.reading() as reader:
            return answer(replay_view(replays.find_replay(reader, replay_id, caller.project)))

    @router.delete("/{replay_id}", responses=responses(200, ReplayBody, 404, 409))
    def cancel_replay(replay_id: Id, caller: Sender) -> Response:
        """End a replay. Dead letters that it has not come to stay as they are."""
        with store.writing() as writer:
            return answer(replay_view(replays.cancel_replay(writer, replay_id, caller.project, store.moment)))

    return router


def _filter(body: DeadLetters, caller: Caller) -> RunFilter:
    return RunFilter(
        project_of(caller, body.project_id or None),
        job_id=body.job_id,
        created_from=body.created_from,
        created_before=body.created_before,
        batch_id=body.batch_id,
        error_class=body.error_class,
        text=body.search,
        ids=tuple(dict.fromkeys(body.ids)),
    )


def _begin(store: JobsStore, wanted: RunFilter, caller: Caller, new_id: str | None) -> replays.Replay:
    with store.writing() as writer:
        return replays.begin_replay(writer, wanted, Change(caller.name, store.moment), new_id)
