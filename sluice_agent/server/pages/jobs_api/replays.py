"""``/dead-letters/replays``: the replays of a project, how far each is, and the button that stops it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.runs.replays import Refusals, Replay, ReplayState, has_turn, list_replays
from sluice_agent.jobs.runs.search import RunFilter
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.api import part_of_path
from sluice_agent.server.pages.jobs_api.dead_letters import described, existing_scope, filter_of_dead_letters
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, WantedScope, scope_of_replay
from sluice_agent.server.pages.progress import Progress
from sluice_agent.server.pages.render import render
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_PATH = "/dead-letters/replays"
_LIMIT = 50
_EARLIER = "replays take turns, and an earlier one goes on."
_STATES = {ReplayState.RUNNING: "running", ReplayState.COMPLETED: "done", ReplayState.CANCELED: "stopped"}
_REST = {
    ReplayState.RUNNING: "Still to go",
    ReplayState.COMPLETED: "Replayed by others",
    ReplayState.CANCELED: "Left as they were",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress(Progress):
    """A replay: dead letters by what has become of them."""

    replayed: int
    refused: int
    missing: int
    """Runs that were selected, and were no dead letters any more when it began."""
    reasons: Sequence[Refusals]


class ReplaysView(NamedTuple):
    """A page of the list."""

    rows: Sequence[ReplayProgress]
    first: str | None
    older: str | None


def replays_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the list, of the form that begins a replay, of its page, and of its button."""
    router = APIRouter()

    @router.get(_PATH)
    def replays(request: Request, wanted: WantedScope, cursor: Cursor = None) -> HTMLResponse:
        page = PageRequest(_LIMIT, position_of(cursor) if cursor else None)
        with sources.store.reading() as reader:
            scope = existing_scope(sources, reader, wanted)
            found = list_replays(reader, scope.project or "", page)
            rows = [_progress(reader, scope, replay) for replay in found.items]
        older = None if found.next is None else scope.href(_PATH, cursor=cursor_of(found.next))
        view = ReplaysView(rows, scope.href(_PATH) if cursor else None, older)
        layout = scope.layout(sources, "dead-letters", "Replays", is_live=True)
        return render(request, "replays.html", layout, view)

    @router.post(_PATH)
    async def begin(request: Request, form: OperatorForm) -> Response:
        scope, body = await run_in_threadpool(_wanted_by, sources, form)
        answer = await sources.api.send(request, "POST", "/replays", body, new_id=form.uuid("token"))
        answer.raise_refusal()
        return see_other(scope.href(f"{_PATH}/{answer.body['id']}"))

    @router.get(_PATH + "/{replay_id}")
    def replay(request: Request, wanted: WantedScope, replay_id: str) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, found = scope_of_replay(sources, reader, wanted, replay_id)
            view = _progress(reader, scope, found)
        layout = scope.layout(sources, "dead-letters", view.page_title, is_live=True)
        return render(request, "replay_progress.html", layout, view)

    @router.post(_PATH + "/{replay_id}/stop")
    async def stop(request: Request, form: OperatorForm, replay_id: str) -> Response:
        answer = await sources.api.send(request, "DELETE", f"/replays/{part_of_path(replay_id)}")
        if answer.status != HTTPStatus.CONFLICT:  # it has ended meanwhile
            answer.raise_refusal()
        scope, found = await run_in_threadpool(_found, sources, Wanted(form.principal), replay_id)
        return see_other(scope.href(f"{_PATH}/{found.id}"))

    return router


def _wanted_by(sources: JobsSources, form: SentForm) -> tuple[JobsScope, dict[str, Any]]:
    """Return the scope of a form, and the request that it stands for."""
    with sources.store.reading() as reader:
        scope = existing_scope(sources, reader, Wanted(form.principal, form.value("project", "") or None))
    wanted = filter_of_dead_letters(scope, form.fields)
    times = {"created_from": wanted.created_from, "created_before": wanted.created_before}
    body = {
        "project_id": wanted.project,
        "job_id": wanted.job_id,
        "batch_id": wanted.batch_id,
        "error_class": wanted.error_class,
        "search": wanted.text,
        **{name: timestamp_or_none(moment) for name, moment in times.items()},
        "ids": form.values("run"),
    }
    return scope, {name: value for name, value in body.items() if value is not None}


def _found(sources: JobsSources, wanted: Wanted, replay_id: str) -> tuple[JobsScope, Replay]:
    with sources.store.reading() as reader:
        return scope_of_replay(sources, reader, wanted, replay_id)


def _progress(reader: Connection, scope: JobsScope, replay: Replay) -> ReplayProgress:
    is_open = replay.state is ReplayState.RUNNING
    done = replay.replayed + replay.refused
    rest = max(0, replay.total - done)
    others = (("Did not go", replay.refused), (_REST[replay.state], rest))
    path = f"{_PATH}/{replay.id}"
    return ReplayProgress(
        title=f"Replay {formats.counted(replay.total, 'dead letter')}{_selection(reader, replay.wanted)}",
        state=_STATES[replay.state],
        path=path,
        href=scope.href(path),
        is_open=is_open,
        may_stop=is_open and scope.may_act,
        waiting_for=_EARLIER if is_open and not has_turn(reader, replay) else None,
        who=replay.who,
        created_at=timestamp_of(replay.created_at),
        finished_at=timestamp_or_none(replay.finished_at),
        total=replay.total,
        done=done,
        replayed=replay.replayed,
        refused=replay.refused,
        counts=[("Replayed", replay.replayed), *((label, runs) for label, runs in others if runs)],
        missing=max(0, len(replay.wanted.ids) - replay.total),
        reasons=replay.refusals,
        further=replay.refused - sum(refusals.runs for refusals in replay.refusals),
    )


def _selection(reader: Connection, wanted: RunFilter) -> str:
    return " of a selection" if wanted.ids else described(reader, wanted)
