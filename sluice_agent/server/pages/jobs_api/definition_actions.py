"""What operators do with one job beside changing its settings: enable, disable, pause, resume and delete it."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.runs.search import RunFilter, count_runs
from sluice_agent.jobs.status import UNDER_WAY
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, see_other
from sluice_agent.server.pages.jobs_api.api import part_of_path
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.run_list import count_text
from sluice_agent.server.pages.jobs_api.scope import JobsSources, Wanted, jobs_scope_of, scope_of_job
from sluice_agent.server.pages.scope import ConnectionId


class Switch(NamedTuple):
    """What switches a job: `verb` is the button's text, `path` that of the API."""

    verb: str
    path: str
    text: str
    is_danger: bool = False


SWITCHES = {
    "enable": Switch("Enable", "/jobs/batch-enable", "It can be triggered again, and its schedule goes on from now."),
    "disable": Switch(
        "Disable",
        "/jobs/batch-disable",
        "No run of it starts, and triggers are refused with 400. Runs under way go on. It makes no new version.",
        is_danger=True,
    ),
    "pause": Switch(
        "Pause",
        "/jobs/{id}/pause",
        "Runs can be triggered and keep their place, but none starts. Firings of its schedule are missed meanwhile.",
    ),
    "resume": Switch("Resume", "/jobs/{id}/resume", "Its runs start again."),
}
POSSIBLE = {"enabled": ("pause", "disable"), "paused": ("resume", "disable"), "disabled": ("enable",)}
"""The switches that a job has, by its state."""


def definition_actions_router(sources: JobsSources) -> APIRouter:
    """Return the routes of questions and forms."""
    router = APIRouter()
    _add_delete(router, sources)
    _add_switches(router, sources)
    return router


def _add_delete(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/definitions/{job_id}/delete")
    def ask_to_delete(
        request: Request, principal: PageOperator, job_id: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, Wanted(principal, None, connection_id), job_id)
            question = _question_of_delete(reader, job, scope.href(f"/definitions/{job.id}"))
        return ask(request, scope.layout(sources, "definitions", question.title), question)

    @router.post("/definitions/{job_id}/delete")
    async def delete(request: Request, form: OperatorForm, job_id: str) -> Response:
        answer = await sources.api.send(request, "DELETE", f"/jobs/{part_of_path(job_id)}")
        if answer.status != 404:  # another form may have done it
            answer.raise_refusal()
        return see_other(await run_in_threadpool(_list_href, sources, Wanted(form.principal)))


def _question_of_delete(reader: Connection, job: Job, back: str) -> Question:
    """Return what is lost with a job; or why it can't be deleted."""
    title = f"Delete {job.settings.name}"
    under_way = count_runs(reader, RunFilter(job.project_id, job_id=job.id, statuses=UNDER_WAY))
    if under_way.runs:
        runs = "1 run that has" if under_way.runs == 1 else f"{count_text(under_way)} runs that have"
        return Question(title, f"It has {runs} not ended: cancel them, or wait, then delete it.", "", None, back)
    count = count_runs(reader, RunFilter(job.project_id, job_id=job.id))
    runs = "1 run" if count.runs == 1 else f"{count_text(count)} runs"
    text = (
        f"Its {runs} and all of its versions are deleted with it, and so are webhooks that have not been delivered. "
        "Jobs that wait for it wait no longer. Nothing brings it back."
    )
    return Question(title, text, f"/definitions/{job.id}/delete", "Delete the job", back, is_danger=True)


def _list_href(sources: JobsSources, wanted: Wanted) -> str:
    with sources.store.reading() as reader:
        return jobs_scope_of(sources, reader, wanted).href("/definitions")


def _add_switches(router: APIRouter, sources: JobsSources) -> None:
    @router.get("/definitions/{job_id}/{action}")
    def ask_to_switch(
        request: Request, principal: PageOperator, job_id: str, action: str, connection_id: ConnectionId = None
    ) -> HTMLResponse:
        switch = _switch(action)
        with sources.store.reading() as reader:
            scope, job = scope_of_job(sources, reader, Wanted(principal, None, connection_id), job_id)
        path = f"/definitions/{job.id}"
        title = f"{switch.verb} {job.settings.name}"
        question = Question(
            title, switch.text, f"{path}/{action}", switch.verb, scope.href(path), is_danger=switch.is_danger
        )
        return ask(request, scope.layout(sources, "definitions", title), question)

    @router.post("/definitions/{job_id}/{action}")
    async def send_switch(request: Request, _: OperatorForm, job_id: str, action: str) -> Response:
        path, id_ = _switch(action).path, part_of_path(job_id)
        body = {"ids": [id_]} if "batch" in path else None
        answer = await sources.api.send(request, "POST", path.format(id=id_), body)
        answer.raise_refusal()
        return see_other(f"/definitions/{id_}")


def _switch(name: str) -> Switch:
    if name not in SWITCHES:
        raise RefusedError(404, "No page of this server has this address.")
    return SWITCHES[name]
