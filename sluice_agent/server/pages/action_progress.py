"""``/actions/{id}``: how far a bulk action is, what did not go and why, and the button that stops it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from sluice_agent.server.access.principal import Principal
from sluice_agent.server.actions.ledger import IDS, ActionState, BulkAction, Kind
from sluice_agent.server.actions.request import cancel_action, find_action
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.ability import VERBS
from sluice_agent.server.pages.forms import OperatorForm, see_other
from sluice_agent.server.pages.jobs_address import NEWEST, Address
from sluice_agent.server.pages.progress import Progress
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import PageViewer, Scope, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.connections import named_connections
from sluice_agent.server.queries.external_ids import external_ids_of
from sluice_agent.server.queries.filter_text import filter_text
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.timestamps import to_moment


class Failure(NamedTuple):
    """A reason for which jobs did not go, their number, and both ids of the first of them: of one that has been removed
    twice that of Sluice."""

    text: str
    jobs: int
    examples: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionProgress(Progress):
    """The page of a bulk action: jobs by what has become of them."""

    reasons: Sequence[Failure]
    jobs: str | None
    """The address of the list of the jobs, if a filter selects them."""


def progress_router(sources: Sources) -> APIRouter:
    """Return the routes of the page and of its button."""
    router = APIRouter()
    acting = sources.acting

    @router.get("/actions/{action}")
    def action(request: Request, principal: PageViewer, action: str) -> HTMLResponse:
        now = sources.now()
        found = find_action(acting, action, principal)
        progress = acting.ledger.progress(action)
        if progress is None:
            raise RefusedError(404, "This bulk action was removed.")
        with sources.store.reading() as reader:
            connections = named_connections(reader)
            ids = [UUID(connection.id) for connection in connections if (connection.number,) == found.connections]
            scope = scope_of(reader, principal, ids[0] if ids else None)
            failures = _failures(reader, progress["errors"])
        view = _progress(found, progress, failures, principal, scope, to_moment(now))
        return render(request, "action.html", Layout("jobs", view.page_title, now, scope, ("job",)), view)

    @router.post("/actions/{action}/stop")
    def stop(form: OperatorForm, action: str) -> Response:
        found = find_action(acting, action, form.principal)
        if found.state.is_open:
            cancel_action(acting, found, form.principal)
        return see_other(f"/actions/{found.id}")

    return router


def _filter_of(action: BulkAction) -> JobFilter | None:
    return None if IDS in action.wanted else JobFilter.from_json(action.wanted)


def _failures(reader: Connection, errors: Sequence[Mapping[str, Any]]) -> list[Failure]:
    external_ids = external_ids_of(reader, (job for error in errors for job in error["examples"]))
    return [
        Failure(error["error"], error["jobs"], [(job, external_ids.get(job, job)) for job in error["examples"]])
        for error in errors
    ]


def _progress(
    action: BulkAction,
    progress: Mapping[str, Any],
    failures: Sequence[Failure],
    principal: Principal,
    scope: Scope,
    now: int,
) -> ActionProgress:
    wanted = _filter_of(action)
    verb = VERBS[action.kind]
    total: int | None = progress["total"]
    not_gone = progress["failed"] + progress["unconfirmed"]
    path = f"/actions/{action.id}"
    return ActionProgress(
        title=f"{verb} {_subject(wanted, total, action.kind, now)}",
        state=_state_text(progress),
        path=path,
        href=path,
        is_open=action.state.is_open,
        may_stop=action.state.is_open and principal.may_act,
        who=action.who,
        created_at=progress["createdAt"],
        finished_at=progress["finishedAt"],
        waiting_for=progress["waitingFor"],
        total=total,
        done=progress["succeeded"] + not_gone,
        counts=_counts(action.kind, progress),
        reasons=failures,
        further=not_gone - sum(failure.jobs for failure in failures),
        jobs=None if wanted is None else _list_href(wanted, scope),
    )


def _counts(kind: Kind, progress: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return what has become of the jobs: those that went, and whatever else there is."""
    gone = ("Sent again" if kind is Kind.RETRY else "Revoked", progress["succeeded"])
    others = (
        ("Did not go", progress["failed"]),
        ("Not known", progress["unconfirmed"]),
        ("Still to go", progress["pending"] + progress["sending"]),
        ("Left as they were", progress["cancelled"]),
    )
    return [gone, *((label, jobs) for label, jobs in others if jobs)]


def _subject(wanted: JobFilter | None, total: int | None, kind: Kind, now: int) -> str:
    if wanted is None:
        return formats.counted(total or 0, "job")
    text = filter_text(replace(wanted.within_states(kind.states), connection_id=None), now)
    return text if total is None else f"{formats.number(total)} {text}"


def _list_href(wanted: JobFilter, scope: Scope) -> str:
    connection = [("connectionId", scope.connection.id)] if scope.connection and scope.is_ambiguous else []
    return Address(replace(wanted, connection_id=None), NEWEST, connection).href()


def _state_text(progress: Mapping[str, Any]) -> str:
    state = ActionState(progress["state"])
    if state.is_open and progress["waitingFor"] is not None:
        return "waiting"
    return {
        ActionState.COLLECTING: "selecting jobs",
        ActionState.RUNNING: "running",
        ActionState.COMPLETED: "done",
        ActionState.CANCELLED: "stopped",
    }[state]
