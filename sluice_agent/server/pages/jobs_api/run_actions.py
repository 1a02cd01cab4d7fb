"""What operators do with one run: cancel it, let a dead letter begin again, or make a new run of one that failed."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.json_text import indented, parse
from sluice_agent.jobs.runs.search import settings_of
from sluice_agent.jobs.status import UNDER_WAY, UNSUCCESSFUL, Status
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.api import part_of_path
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, scope_of_run
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import ConnectionId


def run_actions_router(sources: JobsSources) -> APIRouter:
    """Return the routes of questions and forms."""
    router = APIRouter()
    _add_cancel(router, sources)
    _add_replay(router, sources)
    _add_replay_as_new(router, sources)
    _add_debug(router, sources)
    _add_reschedule(router, sources)
    _add_send_again(router, sources)
    return router


def _add_cancel(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/runs/{run_id}/cancel")
    def ask_to_cancel(
        request: Request, principal: PageOperator, run_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        if found.status not in UNDER_WAY:
            raise RefusedError(409, f"The run is {found.status_text}: only one that has not ended is canceled.")
        text = (
            "A request under way is broken off as soon as its worker knows; its endpoint may have done its work."
            if found.status is Status.EXECUTING
            else "It has not begun, and will not. Runs that it has started itself are canceled too."
        )
        question = Question(
            f"Cancel this run of {found.name}", text, f"{found.path}/cancel", "Cancel the run", found.href,
            is_danger=True,
        )  # fmt: skip
        return ask(request, found.scope.layout(sources, "runs", question.title), question)

    @router.post("/runs/{run_id}/cancel")
    async def cancel(request: Request, form: OperatorForm, run_id: str) -> Response:
        answer = await sources.api.send(request, "DELETE", f"/runs/{part_of_path(run_id)}")
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        if found.status is not Status.CANCELED:  # another form may have done it
            answer.raise_refusal()
        return see_other(found.href)


def _add_replay(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/runs/{run_id}/replay")
    def ask_to_replay(
        request: Request, principal: PageOperator, run_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        if found.status is not Status.DEAD_LETTER:
            raise RefusedError(409, f"The run is {found.status_text}: only a dead letter begins again.")
        text = "It begins again as the same run, with its first attempt, the same payload and its idempotency key."
        question = Question(
            f"Replay this run of {found.name}", text, f"{found.path}/replay", "Replay", found.href,
            [("finished_at", str(found.row.finished_at))],
        )  # fmt: skip
        return ask(request, found.scope.layout(sources, "runs", question.title), question)

    @router.post("/runs/{run_id}/replay")
    async def replay(request: Request, form: OperatorForm, run_id: str) -> Response:
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        if form.value("finished_at") == str(found.row.finished_at):  # else this form, or another, has replayed it
            answer = await sources.api.send(request, "POST", f"/runs/{part_of_path(run_id)}/dlq-replay")
            if answer.status != HTTPStatus.CONFLICT:
                answer.raise_refusal()
        return see_other(found.href)


def _add_replay_as_new(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/runs/{run_id}/replay-as-new")
    def ask_to_replay_as_new(
        request: Request, principal: PageOperator, run_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        if found.status not in UNSUCCESSFUL:
            raise RefusedError(409, f"The run is {found.status_text}: only a run that has failed is replayed.")
        return _replay_page(sources, request, found, indented(parse(found.row.payload.encode())))

    @router.post("/runs/{run_id}/replay-as-new")
    async def replay_as_new(request: Request, form: OperatorForm, run_id: str) -> Response:
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        return await _replay_as_new(sources, request, form, found)


_DEBUG_MODES = {
    "on": "The heads of requests and answers are kept with its next attempts, also after a replay, and shown on its "
    "page. Secrets in them are replaced. Bodies are not kept.",
    "off": "Its next attempts keep no heads. Those of earlier attempts stay.",
}


def _add_debug_question(router: APIRouter, sources: JobsSources, mode: str, text: str) -> None:
    @router.get(f"/runs/{{run_id}}/debug-{mode}")
    def ask_for_debug_mode(
        request: Request, principal: PageOperator, run_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        action = f"Turn debug mode {mode}"
        question = Question(
            f"{action} for this run of {found.name}", text, f"{found.path}/debug-{mode}", action, found.href
        )
        return ask(request, found.scope.layout(sources, "runs", question.title), question)


def _add_debug(router: APIRouter, sources: JobsSources) -> None:
    for mode, text in _DEBUG_MODES.items():
        _add_debug_question(router, sources, mode, text)

    @router.post("/runs/{run_id}/debug-{mode}")
    async def set_debug_mode(request: Request, form: OperatorForm, run_id: str, mode: Literal["on", "off"]) -> Response:
        body = {"debug_mode": mode == "on"}
        answer = await sources.api.send(request, "POST", f"/runs/{part_of_path(run_id)}/debug", body)
        answer.raise_refusal()
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        return see_other(found.href)


def _add_reschedule(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/runs/{run_id}/reschedule")
    def new_time(
        request: Request, principal: PageOperator, run_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        if found.status is not Status.DELAYED:
            raise RefusedError(409, f"The run is {found.status_text}: only one that is delayed gets another time.")
        due = found.row.scheduled_at or found.row.available_at
        return _reschedule_page(sources, request, found, formats.input_time(due))

    @router.post("/runs/{run_id}/reschedule")
    async def reschedule(request: Request, form: OperatorForm, run_id: str) -> Response:
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        text = form.value("scheduled_at").strip()
        errors: Sequence[str] = ["Choose a time: with one that has passed it begins at once."]
        if text:
            path = f"/runs/{found.row.id}/reschedule"
            answer = await sources.api.send(request, "POST", path, {"scheduled_at": text})
            if not answer.is_refusal:
                return see_other(found.href)
            errors = [f"Not before: {reason}" for reason in answer.reasons]
        return await run_in_threadpool(_reschedule_page, sources, request, found, text, errors)


class RescheduleView(NamedTuple):
    """The page of another time for a delayed run."""

    name: str
    path: str
    back: str
    scheduled_at: str
    errors: Sequence[str]


def _reschedule_page(
    sources: JobsSources, request: Request, found: _Found, text: str, errors: Sequence[str] = ()
) -> HTMLResponse:
    view = RescheduleView(found.name, found.path, found.href, text, errors)
    layout = found.scope.layout(sources, "runs", f"Reschedule a run of {found.name}")
    return render(request, "reschedule.html", layout, view, 400 if errors else 200, NO_STORE)


def _add_send_again(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/runs/{run_id}/webhooks/{delivery_id}/send-again")
    def ask_to_send_again(
        request: Request, principal: PageOperator, run_id: str, delivery_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        found = _Found(sources, Wanted(principal, None, connection_id), run_id)
        question = Question(
            title=f"Send the webhook {formats.shortened(delivery_id)} again",
            text="It has the same id and body, and goes to the URL that the job has now. A receiver knows by its id "
            "whether it has come before.",
            action=f"{found.path}/webhooks/{part_of_path(delivery_id)}/send-again",
            button="Send again",
            back=found.href,
        )
        return ask(request, found.scope.layout(sources, "runs", question.title), question)

    @router.post("/runs/{run_id}/webhooks/{delivery_id}/send-again")
    async def send_again(request: Request, form: OperatorForm, run_id: str, delivery_id: str) -> Response:
        answer = await sources.api.send(request, "POST", f"/webhook-deliveries/{part_of_path(delivery_id)}/resend")
        answer.raise_refusal()
        found = await run_in_threadpool(_Found, sources, Wanted(form.principal), run_id)
        return see_other(found.href)


class ReplayView(NamedTuple):
    """The page of a new run with what a failed one was given, or with another payload."""

    name: str
    path: str
    back: str
    payload: str
    errors: Sequence[str]
    token: str


class _Found:
    """A run, and the scope of its pages. Raises `RefusedError` (404) if the reader has no such run."""

    def __init__(self, sources: JobsSources, wanted: Wanted, run_id: str) -> None:
        with sources.store.reading() as reader:
            self.scope: JobsScope
            self.row: Row[Any]
            self.scope, self.row = scope_of_run(sources, reader, wanted, run_id)
            self.settings = settings_of(reader, [self.row.job_id])[self.row.job_id]
        self.status = Status(self.row.status)
        self.status_text = self.status.value.replace("_", " ")
        self.name = self.settings.name
        self.path = f"/runs/{self.row.id}"
        self.href = self.scope.href(self.path)


async def _replay_as_new(sources: JobsSources, request: Request, form: SentForm, found: _Found) -> Response:
    text, token = form.value("payload"), form.uuid("token")
    try:
        payload = parse(text.encode())
    except ValueError as error:
        errors = [f"payload: it is not JSON that can be used: {error}"]
        return await run_in_threadpool(_replay_page, sources, request, found, text, errors, token)
    path = f"/runs/{found.row.id}/replay"
    answer = await sources.api.send(request, "POST", path, {"payload": payload}, new_id=token)
    if answer.is_refusal:
        errors = [answer.message, *answer.details]
        return await run_in_threadpool(_replay_page, sources, request, found, text, errors, token)
    return see_other(found.scope.href(f"/runs/{answer.body['id']}"))


def _replay_page(
    sources: JobsSources,
    request: Request,
    found: _Found,
    payload: str,
    errors: list[str] | None = None,
    token: str | None = None,
) -> HTMLResponse:
    view = ReplayView(found.name, found.path, found.href, payload, errors or [], token or str(uuid4()))
    layout = found.scope.layout(sources, "runs", f"Replay {found.name} as a new run")
    return render(request, "replay.html", layout, view, 400 if errors else 200, NO_STORE)
